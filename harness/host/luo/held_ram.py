"""RAM of guests that is a file without a name: who holds it, and how a QEMU opens it by a path.

A kernel hands over only files that have no name in any folder. libvirt has QEMU open its RAM by a
path; so at that path lies a link to a descriptor of a process, ``/proc/PID/fd/N``. While the guest
has a QEMU that process is its QEMU, which keeps the file open for as long as it lives. While it has
none it is a *keeper*: a process that does nothing, and belongs to QEMU's own user, for only such a
process can open what it holds.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from harness.core.background import BackgroundProcess
from harness.core.errors import InfrastructureError
from harness.core.process_stat import PROC

#: What a link to a descriptor of a process says.
HELD = re.compile(r"/proc/([1-9][0-9]*)/fd/([0-9]+)")
#: A program that waits, and does nothing else.
_KEEPER = ("sleep", "infinity")
#: What the kernel goes by when it has to end a process for want of memory.
_NEVER = "-1000"
_MODE = 0o600


def about(folder: int, name: str) -> os.stat_result:
    """Look at a RAM file in a folder; through a link only if it leads to a process's descriptor.

    Raises OSError, FileNotFoundError also where that process holds it no more.
    """
    holder = _holder(name, folder)
    if holder is not None:
        return os.stat(holder[0])
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def is_lost(folder: int, name: str) -> bool:
    """Return True for a link to a process's descriptor that is not there any more. Never raises."""
    holder = _holder(name, folder)
    return holder is not None and not os.path.exists(holder[0])


def is_held(path: Path) -> bool:
    """Return True if a path leads to a descriptor of a process that is there."""
    holder = _holder(path)
    return holder is not None and os.path.exists(holder[0])


def _holder(path: str | os.PathLike[str], folder: int | None = None) -> re.Match[str] | None:
    """Return which descriptor of which process a link leads to; None: no such link. Never raises.

    ``folder``: a descriptor of the folder that ``path`` is in.
    """
    with suppress(OSError):
        return HELD.fullmatch(os.readlink(path, dir_fd=folder))
    return None


def descriptor_of(pid: int, identity: str, proc: Path = PROC) -> str:
    """Return the path of that process's descriptor of a file (``device:inode``).

    Raises InfrastructureError if it has none.
    """
    folder = proc / str(pid) / "fd"
    with suppress(OSError):
        for name in sorted(os.listdir(folder), key=int):
            with suppress(OSError):
                found = os.stat(folder / name)
                if f"{found.st_dev}:{found.st_ino}" == identity:
                    return f"{folder}/{name}"
    raise InfrastructureError(f"process {pid} does not hold its RAM {identity} open")


def take_name(path: Path, holder: str) -> None:
    """Have the RAM at ``path`` have no name but the one of a process's descriptor, ``holder``.

    Who has it mapped notices nothing. Raises InfrastructureError.
    """
    fresh = path.with_name(f".{path.name}.held")
    try:
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(holder)
        os.replace(fresh, path)
    except OSError as error:
        raise InfrastructureError(f"{path}: {error.strerror}") from error


class Keeper:
    """A process that holds a guest's RAM while the guest has no QEMU; it outlives this one."""

    def __init__(self, files: Mapping[str, int], user: int, group: int) -> None:
        """``files``: names of RAM files and descriptors of them. Raises InfrastructureError."""
        try:
            self._process = BackgroundProcess(
                _KEEPER,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=tuple(files.values()),
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=(),
                cwd="/",
            )
        except OSError as error:
            raise InfrastructureError(f"no process to hold RAM: {error.strerror}") from error
        self.pid = self._process.pid
        with suppress(OSError):  # a container's root may not
            (PROC / str(self.pid) / "oom_score_adj").write_text(_NEVER)
        self.held = {name: f"/proc/{self.pid}/fd/{number}" for name, number in files.items()}


def own(file: int, user: int, group: int) -> None:
    """Have RAM be QEMU's user's alone, as QEMU makes it. Raises InfrastructureError."""
    try:
        os.fchown(file, user, group)
        os.fchmod(file, _MODE)
    except OSError as error:
        raise InfrastructureError(
            f"RAM cannot be given to user {user}: {error.strerror}"
        ) from error


def keepers(folder: Path) -> set[int]:
    """Return the pids of the keepers that links in a folder lead to. Never raises."""
    found = set()
    with suppress(OSError):
        for entry in os.scandir(folder):
            holder = _holder(entry)
            if holder is not None and _is_keeper(int(holder[1])):
                found.add(int(holder[1]))
    return found


def dismiss(pid: int) -> None:
    """End a keeper: what no other process has open is gone. Never raises."""
    if _is_keeper(pid):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _is_keeper(pid: int, proc: Path = PROC) -> bool:
    with suppress(OSError):
        words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
        return [os.fsdecode(word) for word in words[:-1]] == list(_KEEPER)
    return False
