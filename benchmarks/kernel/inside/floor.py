#!/usr/bin/python3 -I
"""In the box: `floor.py setup`, `floor.py load RELEASE INITRD`, `floor.py go`; then `floor-init`.

The same kexec with nothing in it that is not needed to have two guests run again: two QEMUs that
nobody manages, without a NIC or a disk, and a few lines of shell that start them again.
"""

import ctypes
import json
import lzma
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

RAM = Path("/var/lib/libvirt/qemu/ram")
GUESTS = {"g1": "/dev/ttyS1", "g2": "/dev/ttyS2"}
MODULES = ("nd_e820", "nd_pmem", "kvm_amd")
UNPACKED = Path("/kernel/unpacked")
LINE = "console=ttyS0 quiet root=/dev/vda rw memmap=1G!4G mitigations=off nowatchdog"
APPEND = "console=ttyS0 quiet mitigations=off tsc=reliable no_timer_check"
_FILE_LOAD, _REBOOT = 320, 169


def qemu(name: str, *more: str) -> list[str]:
    ram = f"memory-backend-file,id=ram,size=160M,mem-path={RAM}/{name}.ram,share=on"
    return [
        *("qemu-system-x86_64", "-machine", "q35,accel=kvm,memory-backend=ram", "-cpu", "host"),
        *("-m", "160", "-object", ram, "-kernel", "/kernel/guest-kernel"),
        *("-initrd", "/kernel/guest-initrd", "-append", f"{APPEND} guest={name}", "-nodefaults"),
        *("-no-user-config", "-display", "none", "-serial", GUESTS[name], *more),
    ]


def at(what: str) -> None:
    with open("/dev/ttyS0", "w") as console:
        console.write(f"AT {what}\r\n")


def run(*words: str) -> str:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def setup() -> None:
    RAM.mkdir(parents=True, exist_ok=True)
    run("modprobe", "-a", *MODULES)
    run("udevadm", "settle")
    run("mkfs.ext4", "-q", "-F", "-m", "0", "/dev/pmem0")
    run("mount", "-o", "dax,noatime", "/dev/pmem0", str(RAM))
    for name in GUESTS:
        monitor = f"unix:/run/{name}.qmp,server=on,wait=off"
        with open(os.devnull, "r+b") as nothing:
            words = qemu(name, "-qmp", monitor)
            subprocess.Popen(
                words, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
            )


def load(release: str, initrd: str) -> None:
    """The kernel, its modules unpacked, and what its init starts."""
    UNPACKED.mkdir(exist_ok=True)
    order = []
    for line in run("modprobe", "-S", release, "-a", "--show-depends", *MODULES).splitlines():
        if line.startswith("insmod "):
            packed = Path(line.split()[1])
            target = UNPACKED / packed.name.removesuffix(".xz")
            data = packed.read_bytes()
            target.write_bytes(lzma.decompress(data) if packed.suffix == ".xz" else data)
            order.append(f"insmod {target}\n")
    Path("/kernel/insmods").write_text("".join(order))
    for name in GUESTS:
        words = qemu(name, "-incoming", "defer", "-qmp", "stdio")
        Path(f"/kernel/{name}.sh").write_text(f"exec {shlex.join(words)}\n")
    said = [
        {"execute": "qmp_capabilities"},
        {"execute": "migrate-set-capabilities", "arguments": capability()},
        {"execute": "migrate-incoming", "arguments": {"uri": "exec:cat STATE"}},
    ]
    for name in GUESTS:
        lines = "".join(json.dumps(one) + "\n" for one in said)
        Path(f"/kernel/{name}.qmp").write_text(lines.replace("STATE", f"{RAM}/{name}.state"))
    line = f"{LINE} init=/kernel/floor-init".encode() + b"\0"
    with open(f"/boot/vmlinuz-{release}", "rb") as kernel, open(initrd, "rb") as disk:
        libc = ctypes.CDLL(None, use_errno=True)
        size = ctypes.c_ulong(len(line))
        if libc.syscall(_FILE_LOAD, kernel.fileno(), disk.fileno(), size, line, ctypes.c_ulong(0)):
            raise OSError(ctypes.get_errno(), "kexec_file_load")


def capability() -> dict:
    return {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}


def park(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(f"/run/{name}.qmp")
        with monitor.makefile("rw") as file:
            file.readline()

            def ask(command: str, **arguments: object) -> object:
                file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
                file.flush()
                while "return" not in (answer := json.loads(file.readline())):
                    if "error" in answer:
                        raise SystemExit(f"{command}: {answer}")
                return answer["return"]

            ask("qmp_capabilities")
            ask("stop")
            ask("migrate-set-capabilities", **capability())
            ask("migrate", uri=f"exec:cat >{RAM}/{name}.state")
            while ask("query-migrate")["status"] != "completed":
                time.sleep(0.01)
            ask("quit")


def go() -> None:
    if Path("/sys/kernel/kexec_loaded").read_text().strip() != "1":
        raise SystemExit("no kernel is loaded: nobody is paused")
    os.sync()
    at("pause")
    for name in GUESTS:
        park(name)
    at("saved")
    while subprocess.run(["umount", str(RAM)], stderr=subprocess.DEVNULL).returncode:
        time.sleep(0.01)  # a QEMU that was told to quit has yet to end
    os.sync()
    Path("/proc/sysrq-trigger").write_text("u")
    at("kexec")
    magic = [ctypes.c_long(one) for one in (0xFEE1DEAD, 672274793, 0x45584543, 0)]
    ctypes.CDLL(None).syscall(_REBOOT, *magic)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
