"""Promise: the guest really froze; its CLOCK_MONOTONIC stood still for the pause."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.clock.arithmetic import judge_offset
from harness.core.records import CheckRecord, ClockReading, Outcome

NAME = "frozen"


def monotonic_deficit(
    before: ClockReading | None, after: ClockReading | None
) -> tuple[float, float] | None:
    """How far CLOCK_MONOTONIC fell behind the host's, and its uncertainty; seconds."""
    if before is None or after is None:
        return None
    if before.monotonic_s is None or after.monotonic_s is None:
        return None
    if before.monotonic_uncertainty_s is None or after.monotonic_uncertainty_s is None:
        return None
    uncertainty_s = before.monotonic_uncertainty_s + after.monotonic_uncertainty_s
    return before.monotonic_s - after.monotonic_s, uncertainty_s


def judge(evidence: Evidence) -> CheckRecord:
    """The monotonic deficit against the pause, seconds."""
    deficit = monotonic_deficit(evidence.clock_before, evidence.clock_after_resume)
    pause = evidence.pause_s
    before = evidence.clock_before
    if evidence.limits and before is not None and before.monotonic_s is None:
        detail = f"no monotonic clock is known: {evidence.limits}"
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail=detail)
    if deficit is None or pause is None:
        return unknown(NAME, "the guest's monotonic clock could not be compared")
    uncertainty_s = deficit[1] + pause[1]
    return CheckRecord(
        name=NAME,
        outcome=judge_offset(deficit[0] - pause[0], uncertainty_s, evidence.lag_tolerance_s),
        measured=deficit[0],
        allowed=pause[0],
        unit="s",
        detail=f"expected within {evidence.lag_tolerance_s:g} s, known to ± {uncertainty_s:.3f} s",
    )
