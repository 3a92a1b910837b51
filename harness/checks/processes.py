"""Promise: what had been running for long in the guest goes on running, in the same process."""

from __future__ import annotations

from harness.checks.evidence import Evidence, Missing, missing, unknown
from harness.checks.guest_life import Life
from harness.core.records import CheckRecord, Outcome

NAME = "processes"
NEEDS = Life
_SHOWN = 5


def judge(evidence: Evidence) -> CheckRecord:
    """Long-running processes, by pid and start time, that are gone."""
    seen = evidence.told(Life)
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    if not (seen.first.sees_all and seen.before.sees_all):
        hidden = "processes of other users are hidden from this one (hidepid)"
        return missing(NAME, Missing(hidden, known_before=True))
    if not seen.after.sees_all:
        return unknown(NAME, "process 1, and so perhaps others, could not be seen any more")
    old = seen.long_running()
    if not old:
        young = f"no process had run for {seen.long_running_s:g} s before the pause"
        return missing(NAME, Missing(young, known_before=True))
    gone = {key: name for key, name in old.items() if key not in seen.after.processes}
    named = [f"{name} (pid {key[0]})" for key, name in sorted(gone.items())]
    return CheckRecord(
        name=NAME,
        outcome=Outcome.FAIL if gone else Outcome.PASS,
        measured=len(gone),
        allowed=0,
        unit="processes gone",
        detail=", ".join(named[:_SHOWN])
        or f"{len(old)} had run for {seen.long_running_s:g} s or more, and still do",
    )
