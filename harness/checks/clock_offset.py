"""Promise: in the end the guest's clock is right, as far as we can tell and no further."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.clock.arithmetic import describe, judge_offset, size
from harness.core.records import CheckRecord, Outcome

NAME = "clock"


def judge(evidence: Evidence) -> CheckRecord:
    """|offset| ± uncertainty at the end against the tolerance, by the interval rule."""
    reading = evidence.clock_at_end
    if reading is None:
        return unknown(NAME, evidence.correction_problem or "the clock could not be measured")
    error_s = reading.offset_s - evidence.clock_target_s
    uncertainty_s = reading.uncertainty_s + evidence.clock_target_uncertainty_s
    said = [f"{describe(error_s)} ± {size(uncertainty_s)}"]
    if evidence.clock_target_s:
        said.append(f"against {describe(evidence.clock_target_s)}, as it was before the pause")
    said += [why for why in (evidence.correction_problem, evidence.correction_doubt) if why]
    outcome = judge_offset(error_s, uncertainty_s, evidence.tolerance_s)
    watched = evidence.watch is not None and evidence.watch.outcome is Outcome.PASS
    if outcome is Outcome.PASS and evidence.correction_doubt and not watched:
        outcome = Outcome.ERROR  # right now, but we cannot tell for how long
    return CheckRecord(
        name=NAME,
        outcome=outcome,
        measured=error_s,
        allowed=evidence.tolerance_s,
        unit="s",
        detail="; ".join(said),
    )
