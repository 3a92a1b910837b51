"""Tells that guests are paused: the journal, and the observers of the edges of their pauses.

In another thread, when the last of them is paused and the update has begun: what is written between
the calls that pause is time for which the guests that are paused already wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from harness.core.fanout import Answer, FanOut
from harness.core.timebase import Clock, Deadline, boot_ahead_ns
from harness.host.protocol import Call, Hypervisor
from harness.maintenance.pause.life import LifeSeen, lives_if_seen
from harness.maintenance.pause.takeover import PauseEdge
from harness.maintenance.pause.terms import Edges
from harness.results.journal import Journal, Member, entries

#: For looking at all guests' processes, in files of the kernel's.
_LOOKS_S = 0.25


class Teller:
    """Tells of one window's pauses."""

    def __init__(
        self, hypervisor: Hypervisor, journal: Journal, edges: Edges, clock: Clock
    ) -> None:
        self._hypervisor = hypervisor
        self._journal = journal
        self._edges = edges
        self._clock = clock
        self._over = False
        self._judged: dict[str, PauseEdge] = {}
        self._begun: list[FanOut[None]] = []

    def tell(self, members: Sequence[Member], pauses: Mapping[str, Answer[Call]]) -> None:
        """Have it told of those of ``members`` that are paused, unless it was.

        They are looked at before this returns: what comes next may change what is seen of them.
        """
        paused = []
        for member in members:
            answer = pauses.get(member.name)
            if answer is not None and answer.value is not None and member.uuid not in self._judged:
                paused.append((member, answer.value))
        until = Deadline.after(_LOOKS_S, self._clock)
        seen = lives_if_seen([member.uuid for member, _ in paused], self._hypervisor, until)
        notes = []
        for member, call in paused:
            life = seen.get(member.uuid, LifeSeen())
            self._judged[member.uuid] = PauseEdge(call.began_ns, life.process, life.vcpu_ns)
            notes.append(partial(self._note, member, call, life))
        # The journal first: who comes after a crash needs it most.
        calls = [*notes, *(partial(self._edges.paused, member) for member, _ in paused)]
        self._begun.append(FanOut({"": partial(self._make, calls)}, until, what="telling"))

    def wait(self, seconds: float) -> bool:
        """Wait until all have learned of it; False if that takes longer."""
        until = Deadline.after(seconds, self._clock)
        return all([begun.wait(until) for begun in self._begun])

    def end(self, seconds: float) -> Mapping[str, PauseEdge]:
        """Tell no more, but what is left within so many seconds.

        Returns by UUID what was seen of each guest when it had been paused.
        """
        self.wait(seconds)
        self._over = True
        return self._judged

    def _make(self, calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            if self._over:
                return
            with suppress(Exception):  # no observer keeps a guest from its resume
                call()

    def _note(self, member: Member, call: Call, life: LifeSeen) -> None:
        """What tells later, also another process, whether the guest stayed paused."""
        began_ns = call.began_ns + boot_ahead_ns(self._clock)
        fields = life.fields
        self._journal.note(entries.Paused(member.name, member.uuid, began_ns=began_ns, **fields))
