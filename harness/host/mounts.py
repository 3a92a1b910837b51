"""Which file system a path is on, by the kernel's table of mounts."""

from __future__ import annotations

import os
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
#: What :func:`file_system` calls one that is mounted with DAX: its files are mapped where they are.
DAX = "dax"
_DAX = frozenset({"dax", "dax=always"})
#: File systems whose files are memory: nothing of them is ever written to a disk, but for swap.
IN_MEMORY = frozenset({"tmpfs", "hugetlbfs", DAX})


def still_written(table: Path = _TABLE) -> list[str]:
    """Return where file systems of block devices are mounted that are not read-only."""
    try:
        lines = table.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        where = before.split()[4]
        _, device, options = after.split(" ", 2)
        if device.startswith("/dev/") and "ro" not in options.split(","):
            found.append(where)
    return found


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
