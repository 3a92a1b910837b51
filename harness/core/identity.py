"""Who is doing this: for journals and locks that other people read."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

_START_TICKS = 19  # field 22 of /proc/PID/stat, counted after the command's ")"


def start_ticks(pid: int, proc: Path = Path("/proc")) -> int:
    """When a process was started, in clock ticks since boot. Raises OSError if it is gone.

    The command name may itself hold spaces and parentheses, so count from the last one.
    """
    stat = (proc / str(pid) / "stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[_START_TICKS])


def who_am_i() -> dict[str, Any]:
    """User, pid, start time and boot: together they name this process and no other, ever."""
    return {
        "user": getpass.getuser(),
        "pid": os.getpid(),
        "start_ticks": start_ticks(os.getpid()),
        "boot_id": boot_id(),
    }


def boot_id() -> str:
    """This boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
