"""Limits: of descriptors and threads, for this process and its children; of libvirt's daemon."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Limit:
    """How many more there may be, and who says so, for people."""

    left: int
    by: str


@dataclass(frozen=True)
class Headroom:
    """The nearest limit of each; None where none is known."""

    descriptors: Limit | None
    threads: Limit | None


@dataclass(frozen=True)
class DaemonLimits:
    """What libvirt's daemon takes; None where it is not known."""

    daemon: str
    connections: Limit | None
    """How many more connections, and by which setting."""
    workers: int | None
    """How many calls it works on at once (``max_workers``)."""


def headroom(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Headroom:
    """Look at this process's limits. Never raises: a limit that cannot be read is none.

    Threads are limited by the control groups it is in, by the kernel for the whole host, and for a
    user other than root by RLIMIT_NPROC.
    """
    threads = [*_of_control_groups(proc, cgroups), *_of_kernel(proc), *_of_user(proc)]
    return Headroom(_of_descriptors(proc), min(threads, key=lambda one: one.left, default=None))


def _of_descriptors(proc: Path) -> Limit | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        used = len(os.listdir(proc / "self/fd"))
    except OSError:
        return None
    return Limit(max(0, soft - used), f"ulimit -n, which is {soft}")


def _of_control_groups(proc: Path, root: Path) -> Iterator[Limit]:
    """Each group on the way up has a limit of its own, for all that is below it."""
    for line in _read(proc / "self/cgroup").splitlines():
        number, controllers, own = line.split(":", 2)
        if number == "0":  # the one tree of cgroup v2
            top = root
        elif "pids" in controllers.split(","):
            top = root / "pids"
        else:
            continue
        group = top / own.lstrip("/")
        for folder in (group, *group.parents):
            most, now = _number(folder / "pids.max"), _number(folder / "pids.current")
            if most is not None and now is not None:
                yield Limit(max(0, most - now), f"{folder / 'pids.max'}, which is {most}")
            if folder == top:
                break


def _of_kernel(proc: Path) -> Iterator[Limit]:
    # Fourth field of loadavg: runnable/all threads of the host, see proc_loadavg(5).
    fields = _read(proc / "loadavg").split()
    now = fields[3].partition("/")[2] if len(fields) > 3 else ""
    if not now.isdecimal():
        return
    for name in ("threads-max", "pid_max"):
        most = _number(proc / "sys/kernel" / name)
        if most is not None:
            yield Limit(max(0, most - int(now)), f"kernel.{name}, which is {most}")


def _of_user(proc: Path) -> Iterator[Limit]:
    """The kernel does not hold root to it, see setrlimit(2)."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() == 0 or most == resource.RLIM_INFINITY:
        return
    now = sum(_threads_of(folder, os.getuid()) for folder in proc.glob("[0-9]*"))
    yield Limit(max(0, most - now), f"ulimit -u, which is {most}")


def _threads_of(process: Path, uid: int) -> int:
    """Return how many threads it has; 0 if it is another user's, or has ended meanwhile."""
    lines = dict(line.split(":", 1) for line in _read(process / "status").splitlines())
    owner = lines.get("Uid", "").split()
    return int(lines["Threads"]) if owner[:1] == [str(uid)] and "Threads" in lines else 0


def _number(file: Path) -> int | None:
    """Return None for ``max``, and for a file that is not there."""
    text = _read(file).strip()
    return int(text) if text.isdecimal() else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
