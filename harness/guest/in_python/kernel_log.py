# What the kernel logged since a marker.
# Given to_mark, a line: as root it is left in the kernel log; prints the line to look for.
# Given marker: the boot id, "marked", "gap" or "denied", and the lines after the marker.
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def read():
    size = libc.klogctl(10, None, 0)  # SYSLOG_ACTION_SIZE_BUFFER
    if size < 0:
        return None
    buffer = ctypes.create_string_buffer(size)
    length = libc.klogctl(3, buffer, size)  # SYSLOG_ACTION_READ_ALL
    if length < 0:
        return None
    lines = buffer.raw[:length].decode(errors="replace").split("\n")
    return [line.partition(">")[2] if line.startswith("<") else line for line in lines if line]


def mark(line):
    if os.geteuid() != 0:
        return ([""] + (read() or []))[-1]
    try:
        with open("/dev/kmsg", "w") as log:
            log.write(line + "\n")
    except OSError:
        return ""
    return line


def since(line):
    with open("/proc/sys/kernel/random/boot_id") as file:
        told = [file.readline().strip()]
    lines = read()
    if lines is None:
        return [*told, "denied"]
    at = [number for number, one in enumerate(lines) if line and line in one]
    return [*told, "marked", *lines[at[-1] + 1 :]] if at else [*told, "gap", *lines]


given = globals()
said = mark(given["to_mark"]) if given["to_mark"] else "\n".join(since(given["marker"]))
