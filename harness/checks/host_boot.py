"""Promise: the host was booted, and the boot that took over is another one (kind kernel)."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "host-boot"


def judge(evidence: Evidence) -> CheckRecord:
    """The boot id of the host before and now; SKIP where its kernel was to stay."""
    change = evidence.change
    if change is None:
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail="the host's kernel was to stay")
    if not change.boot_before or not change.boot_now:
        return unknown(NAME, "a boot id of the host is not known")
    other = change.boot_before != change.boot_now
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if other else Outcome.FAIL,
        measured=change.boot_now,
        allowed=f"not {change.boot_before}",
    )
