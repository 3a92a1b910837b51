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

#: How fast a clock may drift from the host's, and for how long it has run since ``before``.
_DRIFT, _RAN_S = 5e-5, 30.0


@dataclass(frozen=True)
class Foreseen:
    """One guest's clock before its pause, and the pause."""

    before: ClockReading
    shortest_s: float
    """The pause was no shorter than this, and no longer than ``longest_s``."""
    longest_s: float

    def narrow(self, reading: ClockReading) -> ClockReading | None:
        """Return the reading, as sure as both are together; None if they contradict each other.

        Where the host's own clock was set in between, the offset has changed by as much.
        """
        offset_s = self.before.offset_s - (self.shortest_s + self.longest_s) / 2
        if reading.host_ahead_s is not None and self.before.host_ahead_s is not None:
            offset_s -= reading.host_ahead_s - self.before.host_ahead_s
        unsure_s = self.before.uncertainty_s + (self.longest_s - self.shortest_s) / 2
        unsure_s += _DRIFT * (_RAN_S + self.longest_s)
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
