"""Promise: the pause cost the clock exactly the pause, or something else is going on.

``stop``/``cont`` freezes CLOCK_REALTIME, so the lag is known beforehand. A mismatch means that
the measurement, or the pause, is not what we think it is.
"""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.clock.arithmetic import judge_offset
from harness.core.records import CheckRecord, ClockReading

NAME = "lag"


def judge(evidence: Evidence) -> CheckRecord:
    """(offset after resume − offset before) against −pause, seconds.

    A step of the host's own clock in between is no lag of the guest's, and is taken out.
    """
    before, after, pause = evidence.clock_before, evidence.clock_after_resume, evidence.pause_s
    if before is None or after is None or pause is None:
        return unknown(NAME, "needs the clock before and after, and the pause")
    host_step_s = _host_step_s(before, after)
    lag_s = after.offset_s - before.offset_s + host_step_s
    apart_s = _apart_s(lag_s, pause[0], may_catch_up=evidence.may_catch_up)
    uncertainty_s = before.uncertainty_s + after.uncertainty_s + pause[1]
    return CheckRecord(
        name=NAME,
        outcome=judge_offset(apart_s, uncertainty_s, evidence.lag_tolerance_s),
        measured=lag_s,
        allowed=-pause[0],
        unit="s",
        detail=f"expected within {evidence.lag_tolerance_s:g} s, known to ± {uncertainty_s:.3f} s"
        + (f"; the host's clock was set by {host_step_s:+.3f} s" if abs(host_step_s) > 0.01 else "")
        + ("; less is no fault: QEMU delivers missed ticks" if evidence.may_catch_up else ""),
    )


def _apart_s(lag_s: float, pause_s: float, *, may_catch_up: bool) -> float:
    """How far the lag is from what the pause explains: exactly the pause, or at most that."""
    if may_catch_up and -pause_s <= lag_s <= 0:
        return 0.0
    if may_catch_up and lag_s > 0:
        return lag_s
    return lag_s + pause_s


def _host_step_s(before: ClockReading, after: ClockReading) -> float:
    if before.host_ahead_s is None or after.host_ahead_s is None:
        return 0.0
    return after.host_ahead_s - before.host_ahead_s
