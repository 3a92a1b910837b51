"""Promise: the guest runs in the QEMU that was planned for it."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "qemu-version"


def judge(evidence: Evidence) -> CheckRecord:
    """The version that QEMU itself tells afterwards; SKIP where it was not to be replaced."""
    swapped = evidence.swapped
    if swapped is None:
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail="its QEMU was to stay")
    if swapped.version_after is None:
        return unknown(NAME, "QEMU could not be asked for its version after the pause")
    same = swapped.version_after == swapped.version_planned
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if same else Outcome.FAIL,
        measured=swapped.version_after,
        allowed=swapped.version_planned,
    )
