"""A clock that only moves when a test moves it, or when code sleeps."""

from __future__ import annotations

import threading

from harness.core.timebase import NS_PER_S


class FakeClock:
    """Implements harness.core.timebase.Clock; realtime can be stepped apart from monotonic."""

    def __init__(self, realtime_ns: int = 1_800_000_000 * NS_PER_S) -> None:
        self._lock = threading.Lock()
        self._elapsed_ns = 1_000 * NS_PER_S
        self._realtime_ahead_ns = realtime_ns - self._elapsed_ns
        self._suspended_ns = 0

    def monotonic_ns(self) -> int:
        return self._elapsed_ns

    def boottime_ns(self) -> int:
        return self._elapsed_ns + self._suspended_ns

    def realtime_ns(self) -> int:
        return self._elapsed_ns + self._realtime_ahead_ns

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0, f"slept {seconds} s"
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._elapsed_ns += round(seconds * NS_PER_S)

    def step_realtime(self, seconds: float) -> None:
        """Set the host's clock."""
        self._realtime_ahead_ns += round(seconds * NS_PER_S)

    def suspend(self, seconds: float) -> None:
        """Suspend the host: CLOCK_MONOTONIC stands still, the others are ahead afterwards."""
        self._suspended_ns += round(seconds * NS_PER_S)
        self._realtime_ahead_ns += round(seconds * NS_PER_S)
