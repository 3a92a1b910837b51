"""Promise: the host runs the kernel that it was to go on in (kind kernel)."""

from __future__ import annotations

from harness.checks.evidence import Evidence
from harness.core.records import CheckRecord, Outcome

NAME = "host-kernel"


def judge(evidence: Evidence) -> CheckRecord:
    """The release that runs against the one that was started; SKIP where it was to stay."""
    change = evidence.change
    if change is None:
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail="the host's kernel was to stay")
    kept = change.release_now == change.release_wanted
    back = change.release_now == change.release_before
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if kept else Outcome.FAIL,
        measured=change.release_now,
        allowed=change.release_wanted,
        detail="rolled back by reset" if back and not kept else "",
    )
