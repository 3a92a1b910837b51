"""Waiting on descriptors until a deadline: the only module that calls poll().

poll() counts milliseconds in a C int, which overflows after 24 days. A budget may be longer.
"""

from __future__ import annotations

import math
import select
from collections.abc import Sequence
from contextlib import suppress

from harness.core.timebase import LONGEST_TIMEOUT_S, Deadline


def readable(descriptors: Sequence[int], deadline: Deadline | None) -> frozenset[int]:
    """Wait until at least one of ``descriptors`` is readable, has ended or is broken.

    Args:
        descriptors: open file descriptors.
        deadline: when to give up; None waits without a limit.

    Returns:
        The descriptors that are; empty if the deadline passed first. What is readable already is
        returned even if no time is left. May be called from any thread.
    """
    return _ready(descriptors, select.POLLIN, deadline)


def writable(descriptor: int, deadline: Deadline | None) -> bool:
    """Wait until ``descriptor`` takes data, or is broken; return False if the deadline is first."""
    return bool(_ready([descriptor], select.POLLOUT, deadline))


def _ready(descriptors: Sequence[int], what: int, deadline: Deadline | None) -> frozenset[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, what)
    while True:
        left_s = None if deadline is None else deadline.timeout_s()
        # Rounded up: 0 would not wait at all while there is time left.
        found = poll.poll(None if left_s is None else math.ceil(left_s * 1000))
        if found or left_s != LONGEST_TIMEOUT_S:
            return frozenset(descriptor for descriptor, _ in found)


class Registered:
    """Descriptors that are waited for again and again; any thread may change which."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def add(self, descriptor: int) -> None:
        """Wait for this one too."""
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Wait for this one no more."""
        with suppress(OSError):  # it is closed
            self._epoll.unregister(descriptor)

    def wait(self, seconds: float | None) -> list[int]:
        """Return those that are readable or broken; none if ``seconds`` pass first."""
        limit_s = None if seconds is None else min(seconds, LONGEST_TIMEOUT_S)
        return [descriptor for descriptor, _ in self._epoll.poll(limit_s)]

    def close(self) -> None:
        """Wait for nothing any more."""
        self._epoll.close()
