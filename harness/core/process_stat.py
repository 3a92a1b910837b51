"""``/proc/PID/stat``, and which process is which: a pid may be used again, its start time not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class ProcessStat:
    """What this project reads of ``/proc/PID/stat``; see proc_pid_stat(5)."""

    pid: int
    name: str
    state: str
    """One letter; Z and X have ended."""
    parent: int
    session: int
    major_faults: int
    start_ticks: int
    """Clock ticks from the machine's boot to the start."""


def parse_stat(text: str) -> ProcessStat:
    """Return a ``stat`` file taken apart. Raises ValueError for anything else.

    The command name may itself hold spaces, parentheses and newlines, so what follows it is
    counted from the last parenthesis.
    """
    head, _, rest = text.rpartition(")")
    pid, _, name = head.partition(" (")
    fields = rest.split()  # from field 3 of the man page on
    if len(fields) < 20:
        raise ValueError(f"not a line of /proc/PID/stat: {text[:80]!r}")
    return ProcessStat(
        pid=int(pid),
        name=name,
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        major_faults=int(fields[9]),
        start_ticks=int(fields[19]),
    )


def read_whole(path: str) -> bytes:
    """Return what is in a small file of the kernel's. Raises OSError.

    At the edges of a pause many are read while guests wait: this is a third of what pathlib takes.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = b""
        while more := os.read(file, _CHUNK_BYTES):
            found += more
        return found
    finally:
        os.close(file)


def read_stat(pid: int, proc: Path = PROC) -> ProcessStat:
    """Return the ``stat`` of a process; never blocks. Raises OSError if it is gone."""
    return parse_stat(read_whole(f"{proc}/{pid}/stat").decode(errors="replace"))


def start_ticks(pid: int, proc: Path = PROC) -> int:
    """Return its start, in clock ticks since the machine's boot. Raises OSError if it is gone."""
    return read_stat(pid, proc).start_ticks


def is_same_process(pid: int, ticks: int, proc: Path = PROC) -> bool:
    """Return True if ``pid`` is still the process that was started at ``ticks``.

    False also for a process that has ended since, and for a pid that another process got.
    """
    try:
        return start_ticks(pid, proc) == ticks
    except OSError:
        return False


def has_ended(pid: int, ticks: int, proc: Path = PROC) -> bool:
    """Return True if the process that was started at ``ticks`` is surely no more.

    A file that is not there says nothing where ``/proc`` hides what other users run; the kernel
    tells of a signal whether there is a process to send it to.
    """
    try:
        stat = read_stat(pid, proc)
        return stat.start_ticks != ticks or stat.state in "ZX"
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
