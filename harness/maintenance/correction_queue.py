"""Limits concurrent clock corrections and holds slow checks back until all are done.

Every exchange with a guest is work for the host that all guests share, and for this process. Done
with all of them at once, each exchange waits for the others': readings get poor, and have to be
taken again. So would they for looks at guests that are right already, and for time daemons that are
informed of a step. docs/explanation/performance.md has the figures.

There are as many places as CPUs, and more while the machine has nothing to do: then the ways to the
guests take the time, and not their work. A guest that does not give its place up within its turn is
silent or slow, and one other guest goes in beside it: never all that wait at once.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock

from harness.core.timebase import NS_PER_S, Deadline
from harness.host.slack import Slack

#: How long a turn is before the place counts as free. One takes 0.1 s under emulation.
_TURN_S = 1.0
#: A clock that is set to a whole second waits for that most of its turn: so many share a place.
#: More would be at work in the same instant, 5 ms each under emulation, and be set too late.
_WAIT_TOGETHER = 4
#: And turns are as short as it takes for all to have theirs within this share of the time.
_ALL_IN_SHARE = 0.5
#: How soon it is seen that the machine has nothing to do.
_LOOK_S = 0.025
#: However idle the machine is.
_MOST_PLACES = 256
#: Looks wait for the clocks of the others while those get on: for so long without one that does,
#: and at most this share of what time is left.
_TOGETHER_S = 5.0
_TOGETHER_SHARE = 0.25


@dataclass(order=True)
class _Waiting:
    """A guest that has no place yet; the most urgent is the least."""

    behind: tuple[float, float]
    number: int
    called: Event = field(default_factory=Event, compare=False)
    """It has a place, or it is the first of all that wait and has to look when one is free."""
    has_place: bool = field(default=False, compare=False)
    waits: bool = field(default=False, compare=False)
    """Its clock is set to a whole second, and that is waited for."""
    since_ns: int = field(default=0, compare=False)
    """Since when it has its place."""
    beside: int = field(default=0, compare=False)
    """How many that wait for a whole second had their place before it."""


@dataclass(frozen=True)
class Place:
    """A guest's place."""

    give_up: Callable[[], None]
    beside: int
    """How many others wait for the same second, and had their place before: see
    :class:`harness.clock.target.Reach`."""


def _share(one: _Waiting) -> int:
    """Of ``_WAIT_TOGETHER`` shares that a place has."""
    return 1 if one.waits else _WAIT_TOGETHER


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
        self._slack = slack or Slack().there_is
        self._lock = Lock()
        self._waiting: list[_Waiting] = []
        self._in_turn: dict[int, _Waiting] = {}
        """Who has a place; without those whose turn has become too long."""
        self._numbers = 0
        self._all_in_ns: int | None = None
        """When the last guest has to have had its turn begun."""
        self._first: _Waiting | None = None
        """Who looks when a place is free."""
        self._left = guests
        self._all_over = Event()
        self._got_on_ns = 0
        """When a guest gave its place up, lately."""

    @contextmanager
    def place(
        self, deadline: Deadline, urgency: tuple[int, float] = (0, 0.0), *, waits: bool = False
    ) -> Iterator[Place]:
        """Hold a place for one guest in the block; of those that wait the most urgent goes first.

        ``waits``: its clock is set to a whole second, when that comes.

        The end of the block gives the place up, if it was not before: that makes room for the next
        guest and waits, for a limited time, until every guest's is given up.
        """
        mine = self._take(deadline, urgency, waits=waits)
        is_over = False

        def over() -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = True
            self._give_up(mine.number, deadline)
            self._wait_for_others(deadline)

        try:
            yield Place(over, mine.beside)
        finally:
            over()

    def _take(
        self, deadline: Deadline, urgency: tuple[int, float], *, waits: bool = False
    ) -> _Waiting:
        """Wait for a place; return its holder."""
        with self._lock:
            self._numbers += 1
            mine = _Waiting((-urgency[0], -urgency[1]), self._numbers, waits=waits)
            if self._all_in_ns is None:
                share_ns = round(_ALL_IN_SHARE * deadline.remaining_s() * NS_PER_S)
                self._all_in_ns = deadline.clock.monotonic_ns() + share_ns
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
            if first.waits:
                first.beside = sum(one.waits for one in self._in_turn.values())
            self._in_turn[first.number] = first
            first.has_place, first.since_ns = True, now_ns
            first.called.set()
        if self._waiting and self._waiting[0] is not self._first:
            self._first = self._waiting[0]
            self._first.called.set()  # from now on it is the one that looks
        next_ns = min((end_ns for end_ns in ends_ns.values() if end_ns > now_ns), default=now_ns)
        return min(max(next_ns - now_ns, 0) / NS_PER_S, _LOOK_S) or _LOOK_S

    def _has_room(self) -> bool:
        """Whether there is room for the first that waits. Needs the lock."""
        taken = sum(_share(one) for one in self._in_turn.values())
        return taken + _share(self._waiting[0]) <= self._places * _WAIT_TOGETHER

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

    def _give_up(self, number: int, deadline: Deadline) -> None:
        with self._lock:
            self._in_turn.pop(number, None)
            self._let_in(deadline)
            self._left -= 1
            self._got_on_ns = deadline.clock.monotonic_ns()
            if self._left <= 0:
                self._all_over.set()

    def _wait_for_others(self, deadline: Deadline) -> None:
        """Until the last has given its place up, or none does any more: then one is silent."""
        until = deadline.sooner(deadline.remaining_s() * _TOGETHER_SHARE)
        while True:
            since_s = (deadline.clock.monotonic_ns() - self._got_on_ns) / NS_PER_S
            wait_s = min(_TOGETHER_S - since_s, until.remaining_s())
            if wait_s <= 0 or self._all_over.wait(wait_s):
                return
