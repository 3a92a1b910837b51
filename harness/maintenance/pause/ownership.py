"""Whose guests are they? By libvirt's events and errors; the journal's fold says who is held.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.core.errors import GuestNotFound, WrongState
from harness.host.protocol import EventKind, LifecycleEvent

#: Said before a guest is paused: somebody else paused it, it is shut off, or gone. Said when it is
#: to be resumed: it has ended. After any other error it may be paused, by us.
NOT_OURS = (WrongState, GuestNotFound)


def resumed_since(events: Iterable[LifecycleEvent], since_ns: int) -> bool:
    """Whether a guest that we paused after ``since_ns`` (CLOCK_MONOTONIC) was resumed since.

    Asked before we resume it ourselves: then somebody else did, and a pause that came after that
    is somebody else's too.
    """
    kinds = [event.kind for event in events if event.at_ns >= since_ns]
    if EventKind.SUSPENDED not in kinds:
        return False
    return EventKind.RESUMED in kinds[kinds.index(EventKind.SUSPENDED) :]
