"""Whether RAM of guests can go from the kernel that runs to the next one by live update.

Looked up in one go and judged in :mod:`harness.updates.kernel.refusals`; changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
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


def look(kernel: Path, *, device: Path = sessions.DEVICE, boot: Path = abi.BOOT) -> LuoFacts:
    """Look at this host, and at the file of the next kernel. Takes a second a kernel."""
    running = next_one = None
    why_running = why_next = ""
    try:
        running = abi.running(boot)
    except HarnessError as error:
        why_running = error.message
    try:
        next_one = abi.abi_of(kernel)
    except HarnessError as error:
        why_next = error.message
    return LuoFacts(sessions.is_there(device), running, next_one, why_running, why_next)
