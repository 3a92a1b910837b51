"""What a guest's clock must be like after a pause, known before the guest is asked; pure.

CLOCK_REALTIME stands still while a guest is paused, and the host knows the pause to a millisecond.
A first sample that agrees with that is a second witness: together they tell the offset better than
many samples do that are taken of a busy guest. It is never more than a reason to act: samples alone
say whether a clock is right.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.clock.policy import CorrectionPolicy, Remedy, decide
from harness.core.records import ClockReading, Outcome
from harness.core.timebase import NS_PER_S

#: How fast a clock may drift from the host's, and for how long it has run since ``before``.
_DRIFT, _RAN_S = 5e-5, 30.0
#: How much later than it was sent a question may be read by a guest that is to step at once: of the
#: time that its clock lost, so that one which was put right meanwhile is never taken for one that
#: was not; and no more than that.
_LATE_SHARE, _LATE_S = 0.25, 0.1


@dataclass(frozen=True)
class ForeseenStep:
    """A step that a guest makes at once, if its clock is as foreseen; nanoseconds."""

    by_ns: int
    lowest_ns: int
    """What its clock, as it reads the question, may be ahead of the host's as that was sent."""
    highest_ns: int


@dataclass(frozen=True)
class Foreseen:
    """One guest's clock before its pause, and the pause."""

    before: ClockReading
    shortest_s: float
    """The pause was no shorter than this, and no longer than ``longest_s``."""
    longest_s: float

    def expected(self, host_ahead_s: float | None) -> ClockReading:
        """Return what the clock must be like, if it stood still in the pause and was not set.

        ``host_ahead_s`` is the host's CLOCK_REALTIME − CLOCK_MONOTONIC now: where its clock was set
        since ``before``, the offset has changed by as much.
        """
        offset_s = self.before.offset_s - (self.shortest_s + self.longest_s) / 2
        if host_ahead_s is not None and self.before.host_ahead_s is not None:
            offset_s -= host_ahead_s - self.before.host_ahead_s
        unsure_s = self.before.uncertainty_s + (self.longest_s - self.shortest_s) / 2
        unsure_s += _DRIFT * (_RAN_S + self.longest_s)
        return self.before.model_copy(update={"offset_s": offset_s, "uncertainty_s": unsure_s})

    def step(self, policy: CorrectionPolicy, host_ahead_s: float) -> ForeseenStep | None:
        """Return the step that the guest may make before it was asked for its clock; None: none.

        One that would be made after any reading, and leaves the clock within tolerance: that the
        pause is known to is a bound, so it is hardly ever off by all of it.
        """
        expected = self.expected(host_ahead_s)
        error_s, unsure_s = policy.error_s(expected), policy.uncertainty_s(expected)
        wanted = policy.judge(expected) is Outcome.FAIL
        if not wanted or decide(expected, policy).remedy is not Remedy.STEP:
            return None
        # The nearest that another clock could be: one that went on in the pause, or was set right.
        apart_s = min(abs(error_s), self.shortest_s)
        if unsure_s > min(policy.tolerance_s, _LATE_SHARE * apart_s):
            return None
        late_s = min(_LATE_SHARE * apart_s, _LATE_S)
        return ForeseenStep(
            by_ns=round(-error_s * NS_PER_S),
            lowest_ns=round((expected.offset_s - expected.uncertainty_s) * NS_PER_S),
            highest_ns=round((expected.offset_s + expected.uncertainty_s + late_s) * NS_PER_S),
        )

    def narrow(self, reading: ClockReading) -> ClockReading | None:
        """Return the reading, as sure as both are together; None if they contradict each other."""
        expected = self.expected(reading.host_ahead_s)
        offset_s, unsure_s = expected.offset_s, expected.uncertainty_s
        lowest_s = max(offset_s - unsure_s, reading.offset_s - reading.uncertainty_s)
        highest_s = min(offset_s + unsure_s, reading.offset_s + reading.uncertainty_s)
        if lowest_s > highest_s:
            return None
        both = {"offset_s": (lowest_s + highest_s) / 2, "uncertainty_s": (highest_s - lowest_s) / 2}
        return reading.model_copy(update=both)

    def reason_to_act(self, reading: ClockReading, policy: CorrectionPolicy) -> ClockReading | None:
        """Return what to correct the clock by; None: more samples are needed, or none.

        The clock is surely wrong, and as near as can be verified when that is taken off.
        """
        known = self.narrow(reading)
        if known is None or policy.uncertainty_s(known) > policy.tolerance_s / 2:
            return None
        wrong = policy.judge(known) is Outcome.FAIL
        wanted = decide(known, policy).remedy in (Remedy.STEP, Remedy.SLEW)
        return known if wrong and wanted else None
