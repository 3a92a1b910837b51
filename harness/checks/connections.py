"""Promise: no TCP connection of the guest was broken.

Connections come and go by themselves. So only those count that two looks before the pause have
found, whose peer still answered then, and only as many as the guest's kernel says ended otherwise
than by being closed.
"""

from __future__ import annotations

from harness.checks.evidence import Evidence, Missing, missing, unknown
from harness.checks.guest_life import Life
from harness.core.records import CheckRecord, Outcome

NAME = "connections"
NEEDS = Life


def judge(evidence: Evidence) -> CheckRecord:
    """Connections that were established before the pause and broke."""
    seen = evidence.told(Life)
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    first, before, after = seen.first, seen.before, seen.after
    if first.connections is None or before.connections is None or before.resets is None:
        silent = "the guest's kernel does not tell of its TCP connections"
        return missing(NAME, Missing(silent, known_before=True))
    if after.connections is None or after.resets is None:
        return unknown(NAME, "the TCP connections could not be read after the pause")
    known = (first.connections & before.connections) - before.unanswered
    if not known:
        none = "no TCP connection was established, and answered, before the pause"
        return missing(NAME, Missing(none, known_before=True))
    gone = known - after.connections
    resets = after.resets - before.resets
    broken = min(len(gone), resets)
    if gone and resets < 0:
        return CheckRecord(
            name=NAME,
            outcome=Outcome.ERROR,
            detail=f"{len(gone)} of {len(known)} are gone, and the kernel's count started again",
        )
    return CheckRecord(
        name=NAME,
        outcome=Outcome.FAIL if broken > 0 else Outcome.PASS,
        measured=broken,
        allowed=0,
        unit="connections broken",
        detail=f"of {len(known)}, {len(gone)} are gone; {max(resets, 0)} resets or timeouts",
    )
