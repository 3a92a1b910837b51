"""Has another program taken a guest over since we paused it? By events, errors and CPU time; pure.

Which guests are held by this run at all, the journal says: :mod:`harness.results.journal.custody`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.core.errors import GuestNotFound, WrongState
from harness.host.protocol import EventKind, LifecycleEvent, ProcessIdentity

#: Before the pause: another program paused it, it is shut off, or gone. Reported when it is
#: to be resumed: it has ended. After any other error it may be paused, by us.
NOT_OURS = (WrongState, GuestNotFound)

#: Less CPU time than this is no guest that ran: to enter the guest once takes longer.
_STOOD_STILL_NS = 50_000
#: More than this is one that ran, also if the event that tells so is late.
RAN_NS = 5_000_000


@dataclass(frozen=True)
class PauseEdge:
    """What was known of a guest at the moment when it had been paused."""

    began_ns: int
    """CLOCK_MONOTONIC, right before the call that paused it."""
    process: ProcessIdentity | None = None
    vcpu_ns: int | None = None
    """CPU time of its vCPU threads after that call."""
    started_by_us: bool = False
    """We have started that process ourselves, so that no event of a start tells of others."""


def restarted_since(
    edge: PauseEdge, process: ProcessIdentity | None, events: Iterable[LifecycleEvent]
) -> bool:
    """Return True if what is called by the guest's name is not what we paused.

    ``process`` is as of now; None where it cannot be seen.
    """
    if edge.process is not None and process is not None and process != edge.process:
        return True
    if edge.started_by_us:  # the event that tells of our own start may be late
        return False
    return any(e.kind is EventKind.STARTED for e in events if e.at_ns >= edge.began_ns)


def resumed_since(edge: PauseEdge, vcpu_ns: int | None, events: Iterable[LifecycleEvent]) -> bool:
    """Return True if the guest was resumed since we paused it.

    Asked before we resume it ourselves: then another program did, and a pause that came after
    that is not ours. ``vcpu_ns`` is as of now; None where it cannot be seen. CPU time cannot be
    late, as an event can that tells of what came before our pause: a guest whose vCPUs have stood
    still since then has not been resumed, whatever the events say.
    """
    kinds = [event.kind for event in events if event.at_ns >= edge.began_ns]
    told = False
    if EventKind.SUSPENDED in kinds:
        told = EventKind.RESUMED in kinds[kinds.index(EventKind.SUSPENDED) :]
    if edge.vcpu_ns is None or vcpu_ns is None:
        return told
    used_ns = vcpu_ns - edge.vcpu_ns
    return used_ns > RAN_NS or (told and used_ns > _STOOD_STILL_NS)
