"""Whose clock is mended when: a few at a time, and nobody is looked at before all had their turn.

Every exchange with a guest is work for the host that all guests share, and for this process. Done
with all of them at once, each exchange waits for the others': readings get poor, and have to be
taken again. So would they for looks at guests that are right already, and for time daemons that are
told of a step. docs/performance.md has the figures. Nobody waits for long for a silent guest.
"""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Barrier, BrokenBarrierError, Semaphore

from harness.timebase import Deadline

#: So long a clock waits for its turn: one takes a tenth of a second under emulation.
_QUEUE_S = 1.0
#: So long looks wait for the clocks of the others.
_TOGETHER_S = 5.0


class Turns:
    """Of guests whose clocks are mended together."""

    def __init__(self, guests: int, at_once: int | None = None) -> None:
        """``at_once``: as many as this machine has CPUs, at least two."""
        self._slots = Semaphore(at_once or max(2, os.cpu_count() or 1))
        self._all_over = Barrier(max(guests, 1))

    def take(self, deadline: Deadline) -> Turn:
        """Wait for a free place; for a limited time, then go without."""
        return Turn(self._slots, self._all_over, deadline)


class Turn:
    """One guest's turn."""

    def __init__(self, slots: Semaphore, all_over: Barrier, deadline: Deadline) -> None:
        self._slots, self._all_over, self._deadline = slots, all_over, deadline
        self._has_slot = slots.acquire(timeout=deadline.sooner(_QUEUE_S).remaining_s())
        self._over = False

    def over(self) -> None:
        """Make room for the next, wait for all others, for a limited time. Idempotent."""
        if self._over:
            return
        self._over = True
        if self._has_slot:
            self._slots.release()
        with suppress(BrokenBarrierError):  # somebody is silent
            self._all_over.wait(self._deadline.sooner(_TOGETHER_S).remaining_s())
