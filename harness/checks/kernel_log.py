"""Promise: the guest's kernel did not complain about the pause."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "kernel-log"


def judge(evidence: Evidence) -> CheckRecord:
    """New stalls (soft lockup, RCU stall, hung task, clocksource) since the marker.

    SKIP where this user may not read the log: known beforehand, and no broken promise.
    """
    if not evidence.kernel_log_readable:
        why = evidence.limits or "this user may not read the kernel log"
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail=why)
    stalls = evidence.stall_lines
    if stalls is None:
        return unknown(NAME, "the kernel log could not be read")
    if evidence.kernel_log_has_gap and not stalls:
        lost = "the kernel log has wrapped, was cleared or is another boot's: lines are lost"
        return unknown(NAME, lost)
    new = len(evidence.new_kernel_lines or ())
    return CheckRecord(
        name=NAME,
        outcome=Outcome.FAIL if stalls else Outcome.PASS,
        measured=len(stalls),
        allowed=0,
        unit="lines",
        detail=stalls[0] if stalls else f"{new} new line{'' if new == 1 else 's'}, none of a stall",
    )
