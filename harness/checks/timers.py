"""Promise: timers fire as ever; none much too late, none in a burst, no timer unit is lost.

Timers on CLOCK_MONOTONIC stand still with the guest, so a pause owes them nothing. Those on
CLOCK_REALTIME jump with its correction: their burst is reported, and is no broken promise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.checks.evidence import Evidence, Missing, missing
from harness.core.records import CheckRecord, Outcome

NAME = "timers"
#: How late a timer may fire: emulated guests share few cores.
ALLOWED_LATE_S = 1.0


@dataclass(frozen=True)
class Units:
    """systemd's timer units at one time: name → (state, when it fired last)."""

    found: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Timers:
    """Two periodic timers in the guest, and systemd's where there is systemd."""

    interval_s: float
    fired: int
    late_s: float
    """The latest that the monotonic timer has fired."""
    burst: int
    """The most periods of the monotonic timer that came as one."""
    realtime_burst: int
    units_before: Units | None
    units_after: Units | None


NEEDS = Timers


def judge(evidence: Evidence) -> CheckRecord:
    """How late the monotonic timer fired at worst, seconds; a lost timer unit fails as well."""
    seen = evidence.told(Timers)
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    if not seen.fired:
        return missing(NAME, Missing("its timer has not fired at all", known_before=False))
    late = seen.late_s > ALLOWED_LATE_S
    if seen.units_before and seen.units_after is None and not late:
        gap = Missing("systemd did not tell of its timer units any more", known_before=False)
        return missing(NAME, gap)
    before = seen.units_before.found if seen.units_before else {}
    after = seen.units_after.found if seen.units_after else before
    lost = [name for name in before if name not in after or after[name][0] != before[name][0]]
    fired = [name for name in before if name in after and after[name][1] != before[name][1]]
    told = [
        f"fired {seen.fired} times every {seen.interval_s * 1000:g} ms, at most {seen.burst} at "
        f"once; on the real-time clock, at most {seen.realtime_burst} at once"
    ]
    told += [f"timer units lost or changed: {', '.join(lost)}"] if lost else []
    told += [f"timer units fired: {', '.join(fired)}"] if fired else []
    told += [f"{len(before)} timer units"] if before and not lost else []
    return CheckRecord(
        name=NAME,
        outcome=Outcome.FAIL if lost or late else Outcome.PASS,
        measured=seen.late_s,
        allowed=ALLOWED_LATE_S,
        unit="s",
        detail="; ".join(told),
    )
