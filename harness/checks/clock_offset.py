"""Promise: in the end the guest's clock is right, as far as we can tell and no further."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.clock.arithmetic import describe, judge_offset
from harness.records import CheckRecord

NAME = "clock"


def judge(evidence: Evidence) -> CheckRecord:
    """|offset| ± uncertainty at the end against the tolerance, by the interval rule."""
    reading = evidence.clock_at_end
    if reading is None:
        return unknown(NAME, evidence.correction_problem or "the clock could not be measured")
    said = f"{describe(reading.offset_s)} ± {reading.uncertainty_s * 1000:.2f} ms"
    problem = f"; {evidence.correction_problem}" if evidence.correction_problem else ""
    return CheckRecord(
        name=NAME,
        outcome=judge_offset(reading.offset_s, reading.uncertainty_s, evidence.tolerance_s),
        measured=reading.offset_s,
        allowed=evidence.tolerance_s,
        unit="s",
        detail=said + problem,
    )
