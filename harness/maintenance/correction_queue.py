"""Limits concurrent clock corrections and holds slow checks back until all are done.

Every exchange with a guest is work for the host that all guests share, and for this process. Done
with all of them at once, each exchange waits for the others': readings get poor, and have to be
taken again. So would they for looks at guests that are right already, and for time daemons that are
informed of a step. docs/explanation/performance.md has the figures.

There are as many places as CPUs, and more while the machine has nothing to do: then the ways to the
guests take the time, and not their work. A guest that does not give its place up within its turn is
silent or slow, and one other guest goes in beside it: never all that wait at once.

Clocks that may be wrong come first. One that could not be read well enough beside others is read
when none of those waits; and one that is right is looked at closely after both.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Semaphore

from harness.clock.sampling import BUSY_S
from harness.clock.turn import Turn
from harness.core.timebase import NS_PER_S, Deadline
from harness.host.slack import Slack
from harness.maintenance.correction_place import WAIT_TOGETHER, Holder, Stage

#: How long a turn is before the place counts as free. One takes 0.1 s under emulation.
_TURN_S = 1.0
#: And turns are as short as it takes for all to have theirs within this share of the time.
_ALL_IN_SHARE = 0.5
#: How soon it is seen that the machine has nothing to do.
_LOOK_S = 0.025
#: However idle the machine is.
_MOST_PLACES = 256
#: A guest that is read, and silent, keeps others that share its place from that no longer. One that
#: answers is done sooner: less would have all read at once as soon as they are slow.
_TALK_S = 2.0
#: So often a clock that cannot be read well enough is read again later.
_TRIES = 3
#: Looks wait for the clocks of the others while those get on: for so long without one that does or
#: answers, and at most this share of what time is left.
_TOGETHER_S = 5.0
_TOGETHER_SHARE = 0.25


class Place(Turn):
    """A guest's place, and the next one that it takes instead."""

    def __init__(self, queue: CorrectionQueue, mine: Holder, deadline: Deadline) -> None:
        self._queue = queue
        self._mine = mine
        self._deadline = deadline
        self._tries = 0
        self._is_over = False

    @property
    def beside(self) -> int:
        """See :class:`Turn`."""
        return self._mine.beside

    @property
    def busy_s(self) -> float:
        """See :class:`Turn`: one that answers late makes others late, who would come beside it."""
        first = self._queue.is_shared and self._mine.stage is Stage.WRONG
        return _TURN_S if first else BUSY_S

    @contextmanager
    def talking(self) -> Iterator[None]:
        """See :class:`Turn`: those set at the same second are not all read right after it."""
        with self._queue.talking(self._mine):
            yield

    def right(self) -> None:
        """See :class:`Turn`."""
        if self._mine.stage is not Stage.RIGHT and not self._is_over:
            self._mine = self._queue.move(self._mine, Stage.RIGHT, self._deadline)

    def later(self) -> bool:
        """See :class:`Turn`."""
        if self._is_over or not self._queue.is_shared or self._tries >= _TRIES:
            return False
        self._tries += 1
        self._mine = self._queue.move(self._mine, Stage.UNSURE, self._deadline)
        return not self._deadline.expired

    def give_up(self) -> None:
        """Make room for the next guest, and wait, for a limited time, until all have done so."""
        if not self._is_over:
            self._is_over = True
            self._queue.leave(self._mine, self._deadline)


class CorrectionQueue:
    """Limits how many guests' clocks are corrected at once; safe to use from several threads."""

    def __init__(
        self,
        guests: int,
        at_once: int | None = None,
        slack: Callable[[], bool | None] | None = None,
    ) -> None:
        """Make a queue for ``guests`` guests.

        ``at_once``: as many as this machine has CPUs, at least two. ``slack``: see
        :meth:`harness.host.slack.Slack.there_is`, which it is.
        """
        self._fewest = self._places = at_once or max(2, os.cpu_count() or 1)
        self._talking = Semaphore(self._fewest)
        self._slack = slack or Slack().there_is
        self._lock = Lock()
        self._waiting: list[Holder] = []
        self._in_turn: dict[int, Holder] = {}
        """Who has a place; without those whose turn has become too long."""
        self._numbers = 0
        self._all_in_ns: int | None = None
        """When the last guest has to have had its turn begun."""
        self._first: Holder | None = None
        """Who looks when a place is free."""
        self._left = guests
        self.is_shared = guests > 1
        """Whether there are others to wait for."""
        self._held: dict[int, Holder] = {}
        """Who waits for a place or has one, however long."""
        self._all_over = Event()
        self._got_on_ns = 0
        """When a guest was given a place or gave one up, lately."""

    @contextmanager
    def place(
        self,
        deadline: Deadline,
        urgency: tuple[int, float] = (0, 0.0),
        *,
        waits: bool = False,
        heard: Callable[[], int] = lambda: 0,
    ) -> Iterator[Place]:
        """Hold a place for one guest in the block; of those that wait the most urgent goes first.

        ``waits``: its clock is set to a whole second, when that comes; ``heard``: when it answered
        last, on CLOCK_MONOTONIC.

        The end of the block gives the place up, if it was not before: that makes room for the next
        guest and waits, for a limited time, until every guest's is given up.
        """
        place = Place(self, self._take(deadline, urgency, waits=waits, heard=heard), deadline)
        try:
            yield place
        finally:
            place.give_up()

    @contextmanager
    def talking(self, mine: Holder) -> Iterator[None]:
        """Have as many guests that share places answer at once as there are places."""
        alone = mine.waits and self._talking.acquire(timeout=_TALK_S)
        try:
            yield
        finally:
            if alone:
                self._talking.release()

    def move(self, mine: Holder, stage: Stage, deadline: Deadline) -> Holder:
        """Give a place up and wait for the next one of the same guest; return its holder."""
        self._release(mine, deadline)
        urgency = (-mine.behind[1], -mine.behind[2])
        return self._take(deadline, urgency, waits=mine.waits, heard=mine.heard, stage=stage)

    def leave(self, mine: Holder, deadline: Deadline) -> None:
        """Give the guest's last place up, and wait for the others."""
        self._release(mine, deadline)
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                self._all_over.set()
        self._wait_for_others(deadline)

    def _take(
        self,
        deadline: Deadline,
        urgency: tuple[float, float],
        *,
        waits: bool = False,
        heard: Callable[[], int] = lambda: 0,
        stage: Stage = Stage.WRONG,
    ) -> Holder:
        """Wait for a place; return its holder."""
        with self._lock:
            self._numbers += 1
            behind = (stage, -urgency[0], -urgency[1])
            mine = Holder(behind, self._numbers, waits=waits, heard=heard)
            if self._all_in_ns is None:
                share_ns = round(_ALL_IN_SHARE * deadline.remaining_s() * NS_PER_S)
                self._all_in_ns = deadline.clock.monotonic_ns() + share_ns
            self._held[mine.number] = mine
            heapq.heappush(self._waiting, mine)
            wait_s = self._let_in(deadline)
        while not mine.has_place:
            # Only the first looks for a free place: a thousand that did would be work themselves.
            is_first = self._waiting[:1] == [mine]
            mine.called.wait(wait_s if is_first else deadline.remaining_s())
            with self._lock:
                mine.called.clear()
                wait_s = self._let_in(deadline)
                if not mine.has_place and deadline.expired:
                    self._waiting.remove(mine)
                    heapq.heapify(self._waiting)
                    break
        return mine

    def _let_in(self, deadline: Deadline) -> float:
        """Give places to those that wait; return when to look again, in seconds. Needs the lock."""
        self._adapt()
        now_ns = deadline.clock.monotonic_ns()
        turn_ns = self._turn_ns(now_ns)
        ends_ns = {number: one.since_ns + turn_ns for number, one in self._in_turn.items()}
        for number, end_ns in ends_ns.items():
            if now_ns >= end_ns:
                del self._in_turn[number]
        while self._waiting and self._has_room():
            first = heapq.heappop(self._waiting)
            if first.sets:
                first.beside = sum(one.sets for one in self._in_turn.values())
            self._in_turn[first.number] = first
            first.has_place, first.since_ns = True, now_ns
            self._got_on_ns = now_ns
            first.called.set()
        if self._waiting and self._waiting[0] is not self._first:
            self._first = self._waiting[0]
            self._first.called.set()  # from now on it is the one that looks
        next_ns = min((end_ns for end_ns in ends_ns.values() if end_ns > now_ns), default=now_ns)
        return min(max(next_ns - now_ns, 0) / NS_PER_S, _LOOK_S) or _LOOK_S

    def _has_room(self) -> bool:
        """Whether there is room for the first that waits. Needs the lock."""
        taken = sum(one.share for one in self._in_turn.values())
        return taken + self._waiting[0].share <= self._places * WAIT_TOGETHER

    def _turn_ns(self, now_ns: int) -> int:
        """How long a turn may be, so that all that wait have theirs begun in time."""
        left_ns = max(0, (self._all_in_ns or now_ns) - now_ns)
        in_time_ns = left_ns * self._places // max(len(self._waiting), 1)
        return min(round(_TURN_S * NS_PER_S), in_time_ns)

    def _adapt(self) -> None:
        """As many places as the machine can take now."""
        slack = self._slack()
        if slack is None or any(one.waits for one in self._in_turn.values()):
            return  # idle, because a whole second is waited for: it will not be when that comes
        self._places = min(2 * self._places, _MOST_PLACES) if slack else self._fewest

    def _release(self, mine: Holder, deadline: Deadline) -> None:
        with self._lock:
            self._in_turn.pop(mine.number, None)
            self._held.pop(mine.number, None)
            self._let_in(deadline)
            self._got_on_ns = deadline.clock.monotonic_ns()

    def _wait_for_others(self, deadline: Deadline) -> None:
        """Until the last has given its place up, or none does or answers any more."""
        until = deadline.sooner(deadline.remaining_s() * _TOGETHER_SHARE)
        while True:
            with self._lock:
                got_on_ns = max((one.heard() for one in self._held.values()), default=0)
                got_on_ns = max(got_on_ns, self._got_on_ns)
            since_s = (deadline.clock.monotonic_ns() - got_on_ns) / NS_PER_S
            wait_s = min(_TOGETHER_S - since_s, until.remaining_s())
            if wait_s <= 0 or self._all_over.wait(wait_s):
                return
