"""Promise: what a process in the guest held in memory is the same after the pause."""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks.evidence import Evidence, Missing, missing
from harness.core.records import CheckRecord, Outcome

NAME = "canary"


@dataclass(frozen=True)
class Canary:
    """Digests of a random pattern in the memory of a process of the guest."""

    size_bytes: int
    before: str
    after: str


NEEDS = Canary


def judge(evidence: Evidence) -> CheckRecord:
    """The pattern's digest after against the one before."""
    seen = evidence.told(Canary)
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if seen.before == seen.after else Outcome.FAIL,
        measured=seen.after[:16],
        allowed=seen.before[:16],
        unit="sha256",
        detail=f"{seen.size_bytes // 1024} KiB held through the pause",
    )
