"""Which calls are under way: a call that was given up at its deadline is not over yet.

A pause that no thread waits for any more may still take effect. A process that resumes the guest
before that finds it running, leaves it alone, and it is paused without end.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from harness.core.errors import DeadlineExpired
from harness.core.timebase import Deadline


class UnderWay:
    """Calls by guest; safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: Counter[str] = Counter()

    @contextmanager
    def one(self, uuid: str) -> Iterator[None]:
        """A block that makes one call."""
        with self._changed:
            self._calls[uuid] += 1
        try:
            yield
        finally:
            with self._changed:
                self._calls[uuid] -= 1
                self._changed.notify_all()

    def wait(self, uuid: str, deadline: Deadline) -> None:
        """Return when no call for this guest is under way. Raises DeadlineExpired."""
        with self._changed:
            ended = self._changed.wait_for(
                lambda: not self._calls[uuid], timeout=deadline.remaining_s()
            )
        if not ended:
            raise DeadlineExpired("waiting for an earlier pause to end", deadline.limit_s)
