"""What may be done about a clock, and what a reading asks for; pure.

Decided for every reading by itself: an attempt that overshot does not make a backward step right.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.clock.arithmetic import describe, judge_offset
from harness.core.records import ClockReading, Outcome
from harness.core.settings import ClockSection

#: An overshoot of a correction's own step is slewed back up to this, where stepping back is not
#: allowed: what three slews of 9 % for 2 s can do, with some to spare.
OVERSHOOT_S = 0.25
_FEWEST = 2


class Remedy(StrEnum):
    """What a reading asks for."""

    NOTHING = "nothing"
    LEAVE = "leave"
    """Nothing either: it cannot be told whether the clock is right, nor made righter."""
    SLEW = "slew"
    STEP = "step"
    REFUSE = "refuse"


#: How far off the clock is stands beside it.
_BACKWARD = "setting it back is not allowed (hint: --allow-backward)"
#: ``[clock]`` where nothing is configured: its defaults are in core/settings.py, and only there,
#: but for the tolerance, which depends on the guest: clock/tolerance.py.
_DEFAULTS = ClockSection()


@dataclass(frozen=True)
class CorrectionPolicy:
    """What may be done about a clock; seconds."""

    tolerance_s: float
    allow_backward: bool = _DEFAULTS.allow_backward
    ceiling_s: float = _DEFAULTS.ceiling_s
    samples: int = _DEFAULTS.samples
    slew_below_s: float = _DEFAULTS.slew_below_s
    """An offset of at most this is slewed where the guest can be; 0: always stepped."""
    target_s: float = 0.0
    """The offset that the clock is to have: 0, or what it had before the pause."""
    target_uncertainty_s: float = 0.0
    methods: tuple[str, ...] = _DEFAULTS.methods

    def is_enough(self, reading: ClockReading) -> bool:
        """Return whether such a reading is enough to go on by while other clocks wait.

        Of two samples at least: a clock that jumps shows only against another sample. One that is
        right for sure is looked at closely later; for one that is wrong, each sample is time.
        """
        if reading.samples < _FEWEST:
            return False
        judged, uncertainty_s = self.judge(reading), self.uncertainty_s(reading)
        if judged is Outcome.PASS:
            return uncertainty_s <= self.tolerance_s / 2
        return judged is Outcome.FAIL and uncertainty_s <= self.tolerance_s / 4

    def could_be_nearer(self, reading: ClockReading) -> bool:
        """Return whether a clock that is right is so far off that one more correction pays."""
        error_s = abs(self.error_s(reading))
        return error_s > max(2 * self.uncertainty_s(reading), self.tolerance_s / 10)

    def error_s(self, reading: ClockReading) -> float:
        """How far the clock is from its target; negative: slow."""
        return reading.offset_s - self.target_s

    def uncertainty_s(self, reading: ClockReading) -> float:
        """How sure that is."""
        return reading.uncertainty_s + self.target_uncertainty_s

    def cannot_judge(self, reading: ClockReading) -> str | None:
        """Return why no clock could pass by such a reading, with both figures; None if it could."""
        uncertainty_s = self.uncertainty_s(reading)
        if uncertainty_s <= self.tolerance_s:
            return None
        return (
            f"only known to ± {uncertainty_s * 1000:.2f} ms, the tolerance is "
            f"{self.tolerance_s * 1000:g} ms"
        )

    def foresee(self, reading: ClockReading) -> str | None:
        """Return what will become of a clock that is read no better than this; None if nothing."""
        unsure = self.cannot_judge(reading)
        if unsure is None:
            return None
        enough_s = 2 * self.uncertainty_s(reading)
        return (
            f"its clock is {unsure}: it will be corrected as far as can be told, and judged ERROR "
            f"(hint: a tolerance of {enough_s:.2g} s, or run harness nearer to the guest)"
        )

    def judge(self, reading: ClockReading) -> Outcome:
        """Within tolerance? By the interval rule."""
        return judge_offset(self.error_s(reading), self.uncertainty_s(reading), self.tolerance_s)


@dataclass(frozen=True)
class Decision:
    """What to do, and why not more."""

    remedy: Remedy
    reason: str = ""
    """Why a correction is refused, in words."""
    may_step: bool = True
    """Where a slew is asked for and the guest cannot be slewed: may it be stepped?"""


def decide(reading: ClockReading, policy: CorrectionPolicy, *, stepped: bool = False) -> Decision:
    """Return what this reading asks for, under this policy.

    A reading that is too unsure to judge by may be sure enough to act on: a clock whose error is
    twice the uncertainty or more is nearer to right after the correction, wherever in the interval
    it was. ``stepped``: this correction has stepped the clock, so what it is fast is its own doing.
    """
    if policy.judge(reading) is Outcome.PASS:
        return Decision(Remedy.NOTHING)
    error_s, uncertainty_s = policy.error_s(reading), policy.uncertainty_s(reading)
    said = describe(error_s)
    unsure = policy.cannot_judge(reading)
    if unsure is not None and abs(error_s) < 2 * uncertainty_s:
        return Decision(Remedy.LEAVE, unsure)
    if abs(error_s) > policy.ceiling_s:
        return Decision(
            Remedy.REFUSE,
            f"{said} is beyond the ceiling of {policy.ceiling_s:g} s; a person should look first",
        )
    may_step = error_s < 0 or policy.allow_backward
    overshot = stepped and not may_step
    if abs(error_s) <= max(policy.slew_below_s, OVERSHOOT_S if overshot else 0.0):
        return Decision(Remedy.SLEW, "" if may_step else _BACKWARD, may_step)
    if not may_step:
        return Decision(Remedy.REFUSE, _BACKWARD, may_step)
    return Decision(Remedy.STEP)
