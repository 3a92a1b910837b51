"""Promise: the guest's RAM stayed resident; nothing of it was swapped out, or read in again.

Seen from the host, in ``/proc`` of the QEMU process, at the two edges of the pause as well. Where
that process shrinks in the pause, the guest's RAM alone is looked at, against the last look before:
a QEMU that emulates frees tables of its own just after it has stopped, 16 and 64 MiB at a time.
What the guest has touched between that look and its pause hides as much of a loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.checks.evidence import Evidence, Missing, missing, unknown
from harness.core.records import CheckRecord, Outcome
from harness.host.qemu_memory import Resident

NAME = "ram"
#: QEMU's own code and heap come and go; a guest that lost its RAM is far beyond that.
ALLOWED_BYTES = 1 << 20
#: How much may be gone while the guest stands still: QEMU hands freed heap back, and the kernel
#: pages that hold zeros only (Linux 6.12, when it splits huge ones).
ALLOWED_SHRINK_BYTES = 8 << 20


@dataclass(frozen=True)
class Residency:
    """The looks that were taken; None: it could not be read, or this run held no pause."""

    before: Resident
    paused: Resident | None
    resuming: Resident | None
    after: Resident | None
    set_aside: bool = field(default=False, kw_only=True)
    """Its RAM is files on memory that was set aside, with DAX: nothing of it is ever swapped out,
    and the first touch of a page, which gives the file a block, may count as a major fault."""


NEEDS = Residency


def judge(evidence: Evidence) -> CheckRecord:
    """What was swapped out or read in again, bytes; RAM that shrinks in the pause fails too."""
    if evidence.swapped is not None:
        detail = "its QEMU was replaced in the pause: ram-inode tells whether the RAM stayed"
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail=detail)
    seen = evidence.told(Residency)
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    if seen.paused is None or seen.resuming is None or seen.after is None:
        return unknown(NAME, "the memory of QEMU's process could not be read through the pause")
    looks = (seen.paused, seen.resuming, seen.after)
    swapped = max(look.swap_bytes for look in looks) - seen.before.swap_bytes
    touched = seen.after.major_fault_bytes - seen.before.major_fault_bytes
    faulted = 0 if seen.set_aside else touched
    shrunk = _shrunk(seen.before, seen.paused, seen.resuming)
    measured = max(swapped, faulted)
    allowed = ALLOWED_BYTES
    if measured <= ALLOWED_BYTES and shrunk > ALLOWED_SHRINK_BYTES:
        measured, allowed = shrunk, ALLOWED_SHRINK_BYTES
    return CheckRecord(
        name=NAME,
        outcome=Outcome.FAIL if measured > allowed else Outcome.PASS,
        measured=measured,
        allowed=allowed,
        unit="bytes",
        detail=f"swapped out {_mib(swapped)}, {_faults(touched, seen.set_aside)}; VmRSS "
        + " → ".join(_mib(look.rss_bytes) for look in (seen.before, *looks))
        + _ram_alone(seen.before, seen.resuming),
    )


def shrank(paused: Resident, resuming: Resident) -> bool:
    """Whether so much is gone in the pause that it has to be told what it was."""
    return paused.rss_bytes - resuming.rss_bytes > ALLOWED_SHRINK_BYTES


def _shrunk(before: Resident, paused: Resident, resuming: Resident) -> int:
    """How much less is there at the end of the pause, bytes: of RAM alone if that was looked at."""
    if before.ram_bytes is None or resuming.ram_bytes is None:
        return paused.rss_bytes - resuming.rss_bytes
    return before.ram_bytes - resuming.ram_bytes


def _ram_alone(before: Resident, resuming: Resident) -> str:
    if before.ram_bytes is None or resuming.ram_bytes is None:
        return ""
    return f"; RAM alone {_mib(before.ram_bytes)} → {_mib(resuming.ram_bytes)}"


def _faults(touched: int, set_aside: bool) -> str:
    if set_aside:
        return f"touched for the first time at most {_mib(touched)} (memory that was set aside)"
    return f"read in again {_mib(touched)}"


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
