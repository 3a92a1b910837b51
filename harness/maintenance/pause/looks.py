"""The last look at each guest before it is resumed: is it still ours, and what do observers see?

At all of them before the first is resumed: a guest that runs again has the cores that a look at the
next one would take, and all that still wait would wait for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from harness.core.fanout import fan_out
from harness.core.timebase import Deadline
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.life import vcpu_time_of
from harness.maintenance.pause.stranded import Readable, told
from harness.maintenance.pause.takeover import PauseEdge, restarted_since, resumed_since
from harness.results.journal import Member

BY_US = "was resumed by another process of harness"
#: The kernel answers in microseconds; a look that hangs keeps no guest from its resume.
_LOOKS_S = 0.25


class Looks:
    """Takes them; ``resuming`` is called for each guest right after its own."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        journal: Readable,
        by: str,
        resuming: Callable[[Member], None],
    ) -> None:
        self._hypervisor = hypervisor
        self._journal = journal
        self._by = by
        self._resuming = resuming
        self._over = False
        self._told: set[str] = set()
        self._seen: dict[str, tuple[int, str | None]] = {}

    def take(self, edges: Mapping[Member, PauseEdge], deadline: Deadline) -> None:
        """Look at all of them, in a thread that is not waited for without end. Never raises."""
        soon = deadline.sooner(_LOOKS_S)
        fan_out({"": lambda: self._take(edges, deadline)}, soon, what="looking at guests")
        self._over = True

    def why_lost(self, member: Member, edge: PauseEdge, deadline: Deadline) -> str | None:
        """Why the guest is not ours to resume any more; what cannot be seen keeps it ours.

        By the look that was taken, unless there was none or the guest has done something since.
        """
        at_ns, why = self._seen.pop(member.uuid, (None, None))
        with suppress(Exception):
            events = self._hypervisor.events(member.uuid)
            if at_ns is not None and not any(event.at_ns >= at_ns for event in events):
                return why
        return self._look(member, edge, deadline)

    def tell(self, member: Member) -> None:
        """Tell the observer that the guest is about to be resumed; the first time, if it was not.

        Never raises.
        """
        if member.uuid in self._told:
            self._told.discard(member.uuid)
            return
        with suppress(Exception):
            self._resuming(member)

    def _take(self, edges: Mapping[Member, PauseEdge], deadline: Deadline) -> None:
        for member, edge in edges.items():
            at_ns = deadline.clock.monotonic_ns()
            why = self._look(member, edge, deadline)
            if self._over:
                return
            self._seen[member.uuid] = at_ns, why
            if why is None:
                self.tell(member)
                self._told.add(member.uuid)

    def _look(self, member: Member, edge: PauseEdge, deadline: Deadline) -> str | None:
        with suppress(Exception):  # no error of any class comes before the resume
            process = self._hypervisor.process(member.uuid, deadline)
            events = self._hypervisor.events(member.uuid)
            if restarted_since(edge, process, events):
                return "was ended and started again during the pause"
            same = process is not None and process == edge.process
            vcpu_ns = vcpu_time_of(process, self._hypervisor) if same else None
            if resumed_since(edge, vcpu_ns, events):
                guest = told(self._journal).get(member.uuid)
                ours = guest is not None and guest.resuming_by - {self._by}
                return BY_US if ours else "was resumed by another program during the pause"
        return None
