"""Limits concurrent clock corrections and holds slow checks back until all are done.

Every exchange with a guest is work for the host that all guests share, and for this process. Done
with all of them at once, each exchange waits for the others': readings get poor, and have to be
taken again. So would they for looks at guests that are right already, and for time daemons that are
informed of a step. docs/explanation/performance.md has the figures. A silent guest delays the
others by seconds at most.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Barrier, BrokenBarrierError, Semaphore

from harness.core.timebase import Deadline

#: So long a clock waits for its place: one takes a tenth of a second under emulation.
_QUEUE_S = 1.0
#: So long looks wait for the clocks of the others, and at most this share of what time is left.
_TOGETHER_S = 5.0
_TOGETHER_SHARE = 0.25


class CorrectionQueue:
    """Limits how many guests' clocks are corrected at once; safe to use from several threads."""

    def __init__(self, guests: int, at_once: int | None = None) -> None:
        """Make a queue for ``guests`` guests.

        ``at_once``: as many as this machine has CPUs, at least two.
        """
        self._places = Semaphore(at_once or max(2, os.cpu_count() or 1))
        self._all_over = Barrier(max(guests, 1))

    @contextmanager
    def place(self, deadline: Deadline) -> Iterator[Callable[[], None]]:
        """Hold a place for one guest in the block; wait for it for a limited time, then go without.

        The function that is yielded gives the place up, and so does the end of the block: it makes
        room for the next guest and waits, for a limited time, until every guest's is given up.
        """
        has_place = self._places.acquire(timeout=deadline.sooner(_QUEUE_S).remaining_s())
        is_over = False

        def over() -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = True
            if has_place:
                self._places.release()
            with suppress(BrokenBarrierError):  # a guest is silent
                self._all_over.wait(min(_TOGETHER_S, deadline.remaining_s() * _TOGETHER_SHARE))

        try:
            yield over
        finally:
            over()
