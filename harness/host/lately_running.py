"""Which guests ran a moment ago, by one look at all of them, before several are paused at once.

libvirt pauses a guest that is paused already and says nothing, so each pause needs a look first. A
look by each pause itself is a call among the calls that pause the others, and the guests that wait
for those have the cores meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from harness.core.timebase import NS_PER_S, Clock
from harness.host.protocol import LifecycleEvent

#: Many guests are paused at once within this.
_FRESH_NS = NS_PER_S


class LatelyRunning:
    """What one look has found; each guest's is good for one pause. Safe to use from any thread."""

    def __init__(self, events: Callable[[str], Sequence[LifecycleEvent]], clock: Clock) -> None:
        """``events``: those of a guest, as libvirt sends them by itself."""
        self._events = events
        self._clock = clock
        self._seen_ns: dict[str, int] = {}

    def saw(self, uuids: Iterable[str], at_ns: int) -> None:
        """These guests, and no others, were found running by a look that began at ``at_ns``."""
        self._seen_ns = dict.fromkeys(uuids, at_ns)

    def take(self, uuid: str) -> bool:
        """Return True if that guest was seen running just now, and no event came since."""
        at_ns = self._seen_ns.pop(uuid, None)
        if at_ns is None or self._clock.monotonic_ns() - at_ns > _FRESH_NS:
            return False
        return not any(event.at_ns >= at_ns for event in self._events(uuid))
