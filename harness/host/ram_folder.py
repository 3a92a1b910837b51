"""libvirt's memory backing folder: where the RAM of guests lies that is a file, and what it takes.

libvirt's default is on a disk, where the page cache would write RAM out; it has to be a tmpfs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_DEFAULT = Path("/var/lib/libvirt/qemu/ram")
_QEMU_CONF = Path("/etc/libvirt/qemu.conf")
_KEY = re.compile(r'^\s*memory_backing_dir\s*=\s*"([^"]+)"', re.MULTILINE)
_MEMINFO = Path("/proc/meminfo")
OPTIONS = "mode=0755,nosuid,nodev,noexec"


def backing_folder(configuration: Path = _QEMU_CONF) -> Path:
    """Return ``memory_backing_dir`` of libvirt's qemu.conf, or libvirt's default."""
    try:
        found = _KEY.findall(configuration.read_text(errors="replace"))
    except OSError:
        found = []
    return Path(found[-1]) if found else _DEFAULT


def fstab_line(folder: Path) -> str:
    """Return the line of /etc/fstab that puts the folder into memory."""
    return f"tmpfs {folder} tmpfs {OPTIONS} 0 0"


def free_bytes(folder: Path) -> int | None:
    """Return what more can be written there; None where there is no limit.

    Raises OSError if the folder is not there.
    """
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize if about.f_blocks else None


def available_bytes(table: Path = _MEMINFO) -> int:
    """Return what memory this host has left without swapping. Raises OSError."""
    for line in table.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise OSError(None, "does not tell MemAvailable", str(table))
