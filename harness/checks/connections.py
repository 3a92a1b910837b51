"""Promise: no TCP connection of the guest was broken.

Connections come and go by themselves. So only those count that two looks before the pause have
found, whose peer still answered then, and only as many as the guest's kernel says ended otherwise
than by being closed.
"""

from __future__ import annotations

from harness.checks.evidence import Evidence, Missing, missing
from harness.checks.guest_life import Life
from harness.core.records import CheckRecord, Outcome

NAME = "connections"
NEEDS = Life


def judge(evidence: Evidence) -> CheckRecord:
    """Connections that were established before the pause and broke."""
    seen = evidence.told(Life)
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    known = (seen.first.connections & seen.before.connections) - seen.before.unanswered
    gone = known - seen.after.connections
    resets = seen.after.resets - seen.before.resets
    broken = min(len(gone), resets)
    if gone and resets < 0:
        return CheckRecord(
            name=NAME,
            outcome=Outcome.ERROR,
            detail=f"{len(gone)} of {len(known)} are gone, and the kernel's count started anew",
        )
    return CheckRecord(
        name=NAME,
        outcome=Outcome.FAIL if broken > 0 else Outcome.PASS,
        measured=broken,
        allowed=0,
        unit="connections broken",
        detail=f"of {len(known)}, {len(gone)} are gone; {max(resets, 0)} resets or time-outs",
    )
