"""Where the RAM of resident lab guests is: files of libvirt's memory backing folder, on a tmpfs.

A guest whose RAM is a named file in memory outlives its QEMU process: that is what kind ``qemu``
needs. libvirt's default folder is on a disk, where the page cache would write RAM out.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.core.errors import LabError, UsageError
from harness.core.files import public_folder
from harness.host.mounts import IN_MEMORY, file_system
from harness.host.ram_folder import OPTIONS, fstab_line


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
    _run("mount", "-t", "tmpfs", "-o", OPTIONS, "tmpfs", str(folder))


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
