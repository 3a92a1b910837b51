"""Promise: the guest was paused no longer than the budget."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "pause-window"


def judge(evidence: Evidence) -> CheckRecord:
    """Our outer bound of the pause against the budget, both in seconds."""
    if evidence.paused_at_most_s is None:
        return unknown(NAME, "the guest was not paused and resumed by this run")
    kept = evidence.paused_at_most_s <= evidence.budget_s
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if kept else Outcome.FAIL,
        measured=evidence.paused_at_most_s,
        allowed=evidence.budget_s,
        unit="s",
    )
