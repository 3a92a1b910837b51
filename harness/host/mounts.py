"""Which file system a path is on, by the kernel's table of mounts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
#: What :func:`file_system` calls one that is mounted with DAX: its files are mapped where they are.
DAX = "dax"
_DAX = frozenset({"dax", "dax=always"})
_OCTAL = re.compile(r"\\([0-7]{3})")
#: File systems whose files are memory: nothing of them is ever written to a disk, but for swap.
IN_MEMORY = frozenset({"tmpfs", "hugetlbfs", DAX})


@dataclass(frozen=True)
class Mount:
    """One mount of a file system of a block device that is written to."""

    where: str
    device: str
    """``major:minor``."""
    options: tuple[str, ...] = ()
    """Of this mount alone, such as ``ro`` and ``nosuid``."""
    of_all: tuple[str, ...] = ()
    """Of the file system, in each of its mounts, such as ``rw`` and ``sync``."""


def still_written(table: Path = _TABLE) -> list[Mount]:
    """Return the mounts of file systems of block devices that are not read-only."""
    try:
        lines = table.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        _, _, device, _, where, options, *_ = before.split()
        _, source, of_all = after.split(" ", 2)
        if source.startswith("/dev/") and "ro" not in of_all.split(","):
            said = tuple(options.split(","))
            found.append(Mount(_unescaped(where), device, said, tuple(of_all.split(","))))
    return found


def _unescaped(where: str) -> str:
    """A space, a tab, a line's end and a backslash are octal numbers in the table."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), where)


def file_system(path: Path, table: Path = _TABLE) -> str | None:
    """Return the type of the file system that ``path`` is on, such as ``tmpfs``; or ``dax``.

    None if ``path`` does not exist or the table does not tell.
    """
    try:
        device = os.stat(path).st_dev
        lines = table.read_text(errors="replace").splitlines()
    except OSError:
        return None
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            kind, _, options = after.split(" ", 2)
            return DAX if _DAX & set(options.split(",")) else kind
    return None
