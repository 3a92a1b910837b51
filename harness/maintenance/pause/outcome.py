"""What happened in a pause window, guest by guest and in all. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.errors import HarnessError, TakenOver
from harness.core.timebase import NS_PER_S
from harness.maintenance.pause.takeover import NOT_OURS
from harness.updates.protocol import Applied


@dataclass(frozen=True)
class GuestPause:
    """One guest's way through the window; stamps are the host's CLOCK_MONOTONIC."""

    pause_began_ns: int
    pause_returned_ns: int
    resume_began_ns: int | None = None
    """Until then it was surely paused; None if it was not this run that resumed it."""
    resume_returned_ns: int | None = None
    """From then on it ran."""
    pause_error: HarnessError | None = None
    resume_error: HarnessError | None = None

    @property
    def stuck(self) -> bool:
        """It could not be resumed: it has neither ended nor been taken over."""
        error = self.resume_error
        return (
            self.resume_returned_ns is None
            and error is not None
            and not isinstance(error, (*NOT_OURS, TakenOver))
        )

    @property
    def outer_s(self) -> float | None:
        """The longest the guest can have been paused: pause call began → resume returned."""
        return _between(self.pause_began_ns, self.resume_returned_ns)

    @property
    def inner_s(self) -> float | None:
        """The shortest it can have been paused: pause returned → the call that resumed it began."""
        return _between(self.pause_returned_ns, self.resume_began_ns)


def _between(start_ns: int, end_ns: int | None) -> float | None:
    return None if end_ns is None else (end_ns - start_ns) / NS_PER_S


@dataclass(frozen=True)
class PauseWindow:
    """What happened in the critical section."""

    t0_ns: int
    t1_ns: int
    guests: Mapping[str, GuestPause]
    """By guest name."""
    update_s: float | None = None
    applied: Applied | None = None
    update_error: HarnessError | None = None
    rescued: bool = False
    """The guardian resumed guests, because this process was held up."""

    @property
    def duration_s(self) -> float:
        """The pause window: the first pause call → the last guest runs."""
        return (self.t1_ns - self.t0_ns) / NS_PER_S

    @property
    def none_resumed(self) -> bool:
        """There are guests that could not be resumed, and not one that could."""
        pauses = self.guests.values()
        return self.stuck and all(pause.resume_returned_ns is None for pause in pauses)

    @property
    def stuck(self) -> bool:
        """There are guests that could not be resumed."""
        return any(pause.stuck for pause in self.guests.values())

    @property
    def pausing_s(self) -> float | None:
        """The first call that pauses → the last guest is paused."""
        return _between(self.t0_ns, max(g.pause_returned_ns for g in self.guests.values()))

    @property
    def resuming_s(self) -> float | None:
        """The first call that resumes → the last guest runs."""
        began_ns = [g.resume_began_ns for g in self.guests.values() if g.resume_began_ns]
        return _between(min(began_ns), self.t1_ns) if began_ns else None
