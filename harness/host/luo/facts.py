"""Whether RAM of guests can go from the kernel that runs to the next one by live update.

Looked up in one go and judged in :mod:`harness.updates.kernel.refusals`; changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.core.errors import HarnessError
from harness.host.luo import abi, sessions
from harness.host.luo.abi import Abi


@dataclass(frozen=True)
class LuoFacts:
    """What was found; nothing is judged."""

    device: bool
    """The kernel that runs has ``/dev/liveupdate``."""
    running: Abi | None
    """In which words it hands over; None: that cannot be told."""
    next: Abi | None
    """In which words the next kernel takes over; None: that cannot be told."""
    why_running: str = ""
    """Why not."""
    why_next: str = ""
    fix_running: str = ""
    """What helps, where that is known."""
    fix_next: str = ""


def look(kernel: Path, *, device: Path = sessions.DEVICE, boot: Path = abi.BOOT) -> LuoFacts:
    """Look at this host, and at the file of the next kernel. Takes a second a kernel."""
    running, why_running, fix_running = _told(partial(abi.running, boot))
    next_one, why_next, fix_next = _told(partial(abi.abi_of, kernel))
    there = sessions.is_there(device)
    return LuoFacts(there, running, next_one, why_running, why_next, fix_running, fix_next)


def _told(read: Callable[[], Abi]) -> tuple[Abi | None, str, str]:
    try:
        return read(), "", ""
    except HarnessError as error:
        return None, error.message, error.hint or ""
