"""What may be done about a clock, and what a reading asks for; pure.

Decided anew for every reading: an attempt that overshot does not make a backward step right.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.clock.arithmetic import describe, judge_offset
from harness.core.records import ClockReading, Outcome
from harness.core.settings import DEFAULT_METHODS


class Remedy(StrEnum):
    """What a reading asks for."""

    NOTHING = "nothing"
    SLEW = "slew"
    STEP = "step"
    REFUSE = "refuse"


@dataclass(frozen=True)
class CorrectionPolicy:
    """What may be done about a clock; seconds."""

    tolerance_s: float
    allow_backward: bool = False
    ceiling_s: float = 86_400.0
    samples: int = 8
    slew_below_s: float = 0.050
    """An offset of at most this is slewed where the guest can be; 0: always stepped."""
    target_s: float = 0.0
    """The offset that the clock shall have: 0, or what it had before the pause."""
    target_uncertainty_s: float = 0.0
    methods: tuple[str, ...] = DEFAULT_METHODS

    @property
    def quick_s(self) -> float:
        """An uncertainty that is good enough to act on while the clock is wrong."""
        return self.tolerance_s / 10

    def error_s(self, reading: ClockReading) -> float:
        """How far the clock is from where it shall be; negative: slow."""
        return reading.offset_s - self.target_s

    def uncertainty_s(self, reading: ClockReading) -> float:
        """How sure that is."""
        return reading.uncertainty_s + self.target_uncertainty_s

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


def decide(reading: ClockReading, policy: CorrectionPolicy) -> Decision:
    """What this reading asks for, under this policy."""
    if policy.judge(reading) is Outcome.PASS:
        return Decision(Remedy.NOTHING)
    error_s, uncertainty_s = policy.error_s(reading), policy.uncertainty_s(reading)
    said = describe(error_s)
    if uncertainty_s > policy.tolerance_s:
        return Decision(
            Remedy.REFUSE,
            f"the reading is only known to ± {uncertainty_s:.6f} s, the tolerance is "
            f"{policy.tolerance_s:g} s",
        )
    if abs(error_s) > policy.ceiling_s:
        return Decision(
            Remedy.REFUSE,
            f"{said} is beyond the ceiling of {policy.ceiling_s:g} s; a person should look first",
        )
    may_step = error_s < 0 or policy.allow_backward
    if abs(error_s) <= policy.slew_below_s:
        return Decision(Remedy.SLEW, "" if may_step else _backward(said), may_step)
    if not may_step:
        return Decision(Remedy.REFUSE, _backward(said), may_step)
    return Decision(Remedy.STEP)


def _backward(said: str) -> str:
    return f"{said}; setting it back is not allowed (hint: --allow-backward)"
