"""Who is doing this: for journals and locks that other people read."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

from harness.core.process_stat import start_ticks


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
