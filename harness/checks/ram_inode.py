"""Promise: the QEMU that took over a guest has the very RAM that the guest had."""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "ram-inode"


def judge(evidence: Evidence) -> CheckRecord:
    """Device and inode of each RAM file; SKIP where that was not to be kept."""
    swapped = evidence.swapped
    if swapped is None:
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail="its QEMU was to stay")
    if swapped.copied:
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail="its RAM was to be copied")
    if swapped.ram_after is None:
        return unknown(NAME, "the RAM files could not be looked at after the pause")
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if swapped.ram_after == swapped.ram_before else Outcome.FAIL,
        measured=_shown(swapped.ram_after),
        allowed=_shown(swapped.ram_before),
        unit="device:inode",
    )


def _shown(ram: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {identity}" for name, identity in sorted(ram.items()))
