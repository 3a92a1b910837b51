"""What libvirt told of a guest since its pause began: of which events, and how far apart."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from harness.core.errors import DeadlineExpired
from harness.core.timebase import NS_PER_S, Deadline, NotYet, wait_for
from harness.host.protocol import EventKind, Hypervisor, LifecycleEvent
from harness.maintenance.pause.outcome import GuestPause

#: For an event that libvirt has sent already.
LATE_S = 1.0


def events_told(
    uuid: str, pause: GuestPause, hypervisor: Hypervisor, waits_s: float
) -> tuple[str, ...] | None:
    """Return the kinds of a guest's events since its pause began; None if some may be missing.

    Others than of its life, such as of its definition, are left out, and so is what came before our
    pause took hold: another program's pause and resume. An event may be late: the one of the resume
    is waited for as long as ``waits_s``.
    """
    since_ns = pause.pause_began_ns
    found: tuple[EventKind, ...] = ()

    def look() -> None:
        nonlocal found
        events = [one for one in hypervisor.events(uuid) if one.at_ns >= since_ns]
        ours = events[_resumed_before(events, pause.pause_returned_ns) :]
        found = tuple(one.kind for one in ours if one.kind is not EventKind.OTHER)
        if found[-1:] != (EventKind.RESUMED,) and not hypervisor.missed_events(since_ns):
            raise NotYet("libvirt has not told that it runs")

    with suppress(DeadlineExpired):
        wait_for(look, what="events", deadline=Deadline.after(waits_s), interval_s=0.02)
    return None if hypervisor.missed_events(since_ns) else tuple(one.value for one in found)


def _resumed_before(events: Sequence[LifecycleEvent], paused_ns: int) -> int:
    """How many events end with the last resume before the guest was surely paused by us."""
    resumes = (n for n, one in enumerate(events, 1) if one.kind is EventKind.RESUMED)
    return max((n for n in resumes if events[n - 1].at_ns <= paused_ns), default=0)


def between_events(uuid: str, since_ns: int, hypervisor: Hypervisor) -> float | None:
    """Return the inner bound of the pause: SUSPENDED → RESUMED as libvirt told us of them."""
    stamps = [(one.kind, one.at_ns) for one in hypervisor.events(uuid) if one.at_ns >= since_ns]
    # A QEMU that takes a guest over tells once more that it is suspended.
    suspended = next((at_ns for kind, at_ns in stamps if kind is EventKind.SUSPENDED), None)
    resumed = next((at for kind, at in reversed(stamps) if kind is EventKind.RESUMED), None)
    if suspended is None or resumed is None:
        return None
    return (resumed - suspended) / NS_PER_S
