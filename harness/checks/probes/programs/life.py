# life: uptime, every process's stat, mounts, TCP connections and counters; in hexadecimal.
import os

from __main__ import commands


def life():
    lines = []

    def say(section, *paths):
        lines.append(b"=== " + section)
        for path in paths:
            try:
                with open(path, "rb", 0) as file:
                    lines.append(file.read().rstrip(b"\n"))
            except OSError:  # it has ended meanwhile
                pass

    say(b"uptime", "/proc/uptime")
    say(b"stat", *("/proc/%s/stat" % name for name in os.listdir("/proc") if name.isdigit()))
    say(b"mounts", "/proc/mounts")
    say(b"tcp", "/proc/net/tcp", "/proc/net/tcp6")
    say(b"snmp", "/proc/net/snmp")
    return b"\n".join(lines).hex()


commands["life"] = life
