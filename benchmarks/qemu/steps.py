"""One guest's pause, in steps; each contender says how long each took."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.timebase import SYSTEM_CLOCK

#: In the order in which they are taken.
STEPS = ("pausing", "parking", "unparking", "resuming")


@dataclass(frozen=True)
class Pause:
    """Milliseconds from the first call that pauses to the return of the last that resumes."""

    total_ms: float
    steps_ms: dict[str, float]
    """Of :data:`STEPS` or some of them; what is missing lies between them."""


class Laps:
    """A watch that is read after each step."""

    def __init__(self) -> None:
        self._began_ns = self._last_ns = SYSTEM_CLOCK.monotonic_ns()
        self._steps_ms: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """Note what was done since the last lap."""
        now_ns = SYSTEM_CLOCK.monotonic_ns()
        self._steps_ms[step] = (now_ns - self._last_ns) / 1e6
        self._last_ns = now_ns

    @property
    def pause(self) -> Pause:
        """All laps together."""
        return Pause((self._last_ns - self._began_ns) / 1e6, self._steps_ms)
