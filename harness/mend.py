"""After the resume, per guest and as fast as possible: measure the clock, correct it, verify."""

from __future__ import annotations

from dataclasses import dataclass

from harness.clock.correction import correct
from harness.config import Config
from harness.errors import HarnessError
from harness.records import ClockReading
from harness.session import GuestSession
from harness.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline


@dataclass(frozen=True)
class Mended:
    """What became of one guest's clock after the resume."""

    after_resume: ClockReading | None
    after_correction: ClockReading | None = None
    method: str | None = None
    stale_clock_window_s: float | None = None
    """Resume returned → correction verified."""
    problem: str | None = None
    """Why the clock could not be measured or corrected, in words."""

    @property
    def at_end(self) -> ClockReading | None:
        """The last word on this clock."""
        return self.after_correction or self.after_resume


def mend(
    session: GuestSession,
    config: Config,
    resumed_ns: int,
    deadline: Deadline,
    *,
    clock: Clock = SYSTEM_CLOCK,
) -> Mended:
    """Measure, correct where the configuration allows it, measure again.

    ``resumed_ns`` is when the guest's resume returned, on the host's CLOCK_MONOTONIC. Never
    raises a HarnessError: what went wrong is part of the result.
    """
    try:
        after_resume = session.sampler.read(config.clock.samples, deadline)
    except HarnessError as error:
        return Mended(None, problem=str(error))
    if not config.clock.correct:
        return Mended(after_resume, problem="correction is switched off")
    try:
        correction = correct(session.sampler, session.policy(config), deadline, after_resume)
    except HarnessError as error:
        return Mended(after_resume, problem=str(error))
    return Mended(
        after_resume,
        correction.after,
        correction.method,
        (clock.monotonic_ns() - resumed_ns) / NS_PER_S,
        correction.refused,
    )
