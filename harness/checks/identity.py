"""Promise: what was looked at is the guest that was paused; another machine is refused before."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "identity"


def judge(evidence: Evidence) -> CheckRecord:
    """The evidence that bound the login to the guest. SKIP where there was none: never a pass."""
    identity = evidence.identity
    if identity is None:
        return unknown(NAME, "there was no login to the guest")
    bound = identity.bound_by is not None
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if bound else Outcome.SKIP,
        measured=identity.bound_by,
        detail=identity.detail if bound else f"not bound to the guest: {identity.detail}",
    )
