"""Promise: the guest's virtual CPUs used no CPU time of the host while it was paused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.checks.evidence import Evidence, Missing, missing, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "vcpus"
#: Threads that stand still use none: 0 is what is measured. This is room for one that wakes once
#: and sleeps again. A guest that only idles uses as little as 10 ms a second.
ALLOWED_S = 0.002


@dataclass(frozen=True)
class VcpuTime:
    """CPU time of every vCPU thread (by thread id, ns) at the two edges of the pause."""

    paused: Mapping[int, int] | None
    resuming: Mapping[int, int] | None


NEEDS = VcpuTime


def judge(evidence: Evidence) -> CheckRecord:
    """CPU time of all vCPU threads between pause and resume, seconds."""
    if evidence.swapped is not None:
        detail = "its QEMU was replaced in the pause, and its vCPU threads with it"
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail=detail)
    seen = evidence.told(VcpuTime)
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    if not seen.paused or not seen.resuming or seen.paused.keys() != seen.resuming.keys():
        return unknown(NAME, "the vCPU threads could not be read at both edges of the pause")
    used_s = sum(seen.resuming[thread] - seen.paused[thread] for thread in seen.paused) / 1e9
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if used_s <= ALLOWED_S else Outcome.FAIL,
        measured=used_s,
        allowed=ALLOWED_S,
        unit="s",
        detail=f"{len(seen.paused)} vCPU thread{'' if len(seen.paused) == 1 else 's'}",
    )
