"""One command at a time for each guest: its agent does no two, and tells no two apart."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from harness.core.errors import DeadlineExpired
from harness.core.timebase import Deadline


class OneAtATime:
    """Turns at the guests' agents; any thread may wait for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def one(self, uuid: str, deadline: Deadline) -> Iterator[None]:
        """Hold the guest's turn for the time of a ``with``. Raises DeadlineExpired."""
        with self._lock:
            turn = self._turns[uuid]
        if not turn.acquire(timeout=deadline.timeout_s()):
            raise DeadlineExpired("waiting for the guest agent's turn", deadline.limit_s)
        try:
            yield
        finally:
            turn.release()
