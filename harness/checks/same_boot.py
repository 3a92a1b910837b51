"""Promise: the guest was not rebooted."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "same-boot"


def judge(evidence: Evidence) -> CheckRecord:
    """The kernel's boot id before and after."""
    before, after = evidence.before.boot_id, evidence.after.boot_id
    if not before and evidence.limits:
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail=evidence.limits)
    if not before or not after:
        return unknown(NAME, "the boot id could not be read")
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if before == after else Outcome.FAIL,
        measured=after,
        allowed=before,
        unit="boot id",
    )
