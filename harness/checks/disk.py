"""Promise: what was written and fsync'd in the guest is on its disk; nothing is lost or torn."""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks.evidence import Evidence, Missing, missing
from harness.core.records import CheckRecord, Outcome

NAME = "disk"


@dataclass(frozen=True)
class DiskWriter:
    """Blocks that a process in the guest wrote one by one, each with fsync."""

    folder: str
    acknowledged: int
    at_first_look: int
    """How many there were when it was first asked after the pause."""
    lost: int
    torn: int
    stalled_s: float
    """The longest that one write with its fsync took, on the guest's own CLOCK_MONOTONIC."""
    problem: str | None = None
    """An error of a write, as the guest told it."""


NEEDS = DiskWriter


def judge(evidence: Evidence) -> CheckRecord:
    """Blocks that were acknowledged and are lost, or are not what was written."""
    seen = evidence.told(DiskWriter)
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    if not seen.problem and seen.acknowledged <= seen.at_first_look:
        gap = Missing("nothing was written after the pause", known_before=False)
        return missing(NAME, gap)
    told = (
        f"{seen.acknowledged} blocks in {seen.folder}, {seen.acknowledged - seen.at_first_look} "
        f"of them after the first look; longest stall {seen.stalled_s * 1000:.0f} ms"
    )
    return CheckRecord(
        name=NAME,
        outcome=Outcome.FAIL if seen.lost or seen.torn or seen.problem else Outcome.PASS,
        measured=seen.lost + seen.torn,
        allowed=0,
        unit="blocks",
        detail=f"{seen.problem}; {told}" if seen.problem else told,
    )
