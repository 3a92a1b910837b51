"""Where the RAM of resident lab guests is: files of libvirt's memory backing folder, on a tmpfs.

A guest whose RAM is a named file in memory outlives its QEMU process: that is what kind ``qemu``
needs. libvirt's default folder is on a disk, where the page cache would write RAM out.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from harness.core.errors import LabError, UsageError
from harness.core.files import public_folder
from harness.host.mounts import IN_MEMORY, file_system

_DEFAULT = Path("/var/lib/libvirt/qemu/ram")
_QEMU_CONF = Path("/etc/libvirt/qemu.conf")
_KEY = re.compile(r'^\s*memory_backing_dir\s*=\s*"([^"]+)"', re.MULTILINE)
_OPTIONS = "mode=0755,nosuid,nodev,noexec"


def backing_folder(configuration: Path = _QEMU_CONF) -> Path:
    """Return ``memory_backing_dir`` of libvirt's qemu.conf, or libvirt's default."""
    try:
        found = _KEY.findall(configuration.read_text(errors="replace"))
    except OSError:
        found = []
    return Path(found[-1]) if found else _DEFAULT


def fstab_line(folder: Path) -> str:
    """Return the line of /etc/fstab that puts the folder into memory."""
    return f"tmpfs {folder} tmpfs {_OPTIONS} 0 0"


def needs_mount(folder: Path, *, borrowed: bool) -> bool:
    """Return True if a tmpfs must be mounted on ``folder`` before libvirtd starts.

    Raises UsageError if it must, but a libvirtd runs already (``borrowed``), whose guests may have
    files in there.
    """
    public_folder(folder)
    if file_system(folder) in IN_MEMORY:
        return False
    if borrowed:
        raise UsageError(
            f"resident guests need {folder} in memory, but it is on {file_system(folder)}, and the "
            "libvirtd that runs here is not the lab's",
            hint=f"add to /etc/fstab: {fstab_line(folder)}; then mount {folder}",
        )
    return True


def mount(folder: Path) -> None:
    """Mount a tmpfs on ``folder``. Raises LabError."""
    _run("mount", "-t", "tmpfs", "-o", _OPTIONS, "tmpfs", str(folder))


def unmount(folder: Path) -> None:
    """Take the tmpfs away again, and with it all that is in it. Raises LabError.

    One that is gone already is fine.
    """
    if folder.is_mount() and file_system(folder) == "tmpfs":
        _run("umount", str(folder))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise LabError(f"{command[0]} {command[-1]} failed: {done.stderr.strip()}")
