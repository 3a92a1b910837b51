"""Those who watch guests from outside: one thread and one epoll for all guests of a run.

A thread for each guest and kind of watch wakes up for itself, and every wake-up is taken from the
guests that share the cores. This one sleeps until a packet comes or the next is due.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from harness.core.polling import Registered
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK


class Watcher(Protocol):
    """One who watches one guest over one socket; all three are called by the loop, and quick."""

    def fileno(self) -> int:
        """Return the descriptor on which answers come."""

    def due_ns(self) -> int | None:
        """Return when ``act`` is to be called next, on CLOCK_MONOTONIC; None: not by itself."""

    def act(self) -> None:
        """Send what is due."""

    def hear(self) -> None:
        """Take an answer: the descriptor is readable."""


class Outside:
    """The loop; its thread lives for as long as anyone watches. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: dict[int, Watcher] = {}
        self._loop: _Loop | None = None

    def add(self, watcher: Watcher) -> None:
        """Look after ``watcher`` from now on."""
        with self._lock:
            if self._loop is None:  # not before: what is open belongs to one process, fork or not
                self._loop = _Loop(self._turn)
            self._watchers[watcher.fileno()] = watcher
            self._loop.ready.add(watcher.fileno())
            self._loop.nudge()

    def remove(self, watcher: Watcher) -> None:
        """Let go of ``watcher``: nothing of it is called any more when this returns. Idempotent."""
        with self._lock:
            self.forget(watcher)
            loop = self._loop if not self._watchers else None
            if loop is not None:
                loop.nudge()
        if loop is not None:
            loop.thread.join(1.0)

    def forget(self, watcher: Watcher) -> None:
        """Let go of ``watcher``, called by itself in ``act`` or ``hear``: its connection broke."""
        assert self._loop is not None or not self._watchers
        for number in [number for number, one in self._watchers.items() if one is watcher]:
            del self._watchers[number]
            if self._loop is not None:
                self._loop.ready.remove(number)

    def nudge(self) -> None:
        """Have the loop ask everyone when they are due: something has changed."""
        with self._lock:
            if self._loop is not None:
                self._loop.nudge()

    def _turn(self, ready: list[int]) -> tuple[bool, float | None]:
        """Have those hear who are ``ready``, and those act who are due.

        Returns whether to go on, and for how long no one is due, in seconds.
        """
        with self._lock:
            for number in ready:
                if (heard := self._watchers.get(number)) is not None:
                    self._have(heard, heard.hear)
            next_ns = min(
                (due_ns for one in list(self._watchers.values()) for due_ns in self._acted(one)),
                default=None,
            )
            if not self._watchers:
                self._loop = None
                return False, None
        if next_ns is None:
            return True, None
        return True, max(0, next_ns - SYSTEM_CLOCK.monotonic_ns()) / NS_PER_S

    def _acted(self, watcher: Watcher) -> Iterator[int]:
        """Have it act if it is due; yield when it will be next, if it will."""
        due_ns = watcher.due_ns()
        if due_ns is not None and due_ns <= SYSTEM_CLOCK.monotonic_ns():
            self._have(watcher, watcher.act)
            due_ns = watcher.due_ns()
        if due_ns is not None:
            yield due_ns

    def _have(self, watcher: Watcher, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception:  # noqa: BLE001  a bug of one is no end of the others; it tells nothing more
            self.forget(watcher)


class _Loop:
    """The thread, and what wakes it."""

    def __init__(self, turn: Callable[[list[int]], tuple[bool, float | None]]) -> None:
        self.ready = Registered()
        self._turn = turn
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.ready.add(self._alarm)
        self.thread = threading.Thread(target=self._run, name="outside", daemon=True)
        self.thread.start()

    def nudge(self) -> None:
        """Wake it. Only while the loop is that of all: its descriptors are open then."""
        os.eventfd_write(self._alarm, 1)

    def _run(self) -> None:
        ready: list[int] = []
        while True:
            goes_on, wait_s = self._turn(ready)
            if not goes_on:
                break
            ready = self.ready.wait(wait_s)
            if self._alarm in ready:
                os.eventfd_read(self._alarm)
        self.ready.close()
        os.close(self._alarm)


OUTSIDE = Outside()
