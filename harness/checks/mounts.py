"""Promise: every file system is mounted as before; none was lost, or became read-only."""

from __future__ import annotations

from harness.checks.evidence import Evidence, Missing, missing
from harness.checks.guest_life import Life
from harness.core.records import CheckRecord, Outcome

NAME = "mounts"
NEEDS = Life
_SHOWN = 5


def judge(evidence: Evidence) -> CheckRecord:
    """File systems that are gone or changed; a new one is no failure."""
    seen = evidence.told(Life)
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    changed = [
        f"{point}: {was} → {seen.after.mounts.get(point, 'gone')}"
        for point, was in seen.before.mounts.items()
        if seen.after.mounts.get(point) != was
    ]
    return CheckRecord(
        name=NAME,
        outcome=Outcome.FAIL if changed else Outcome.PASS,
        measured=len(changed),
        allowed=0,
        unit="file systems changed",
        detail="; ".join(changed[:_SHOWN]) or f"{len(seen.before.mounts)} as before",
    )
