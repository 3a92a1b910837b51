"""Promise: the host's clock was right before a guest was measured against it (kind kernel).

The RTC knows whole seconds, so a new kernel's clock is wrong by up to one; the CPU's counter tells
what it should say. No stamp from outside is in this: a prober elsewhere would be needed for that.
"""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "host-clock"


def judge(evidence: Evidence) -> CheckRecord:
    """How well the time was known by the counter, against the tolerance of the guest's clock."""
    change = evidence.change
    if change is None:
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail="the host's kernel was to stay")
    if change.clock_moved_s is None or change.clock_known_s is None:
        return unknown(NAME, "the host's clock was not set by the CPU's counter")
    # What it was set by is known no better than that: a larger uncertainty decides nothing.
    known = change.clock_known_s <= evidence.tolerance_s
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if known else Outcome.ERROR,
        measured=change.clock_known_s,
        allowed=evidence.tolerance_s,
        unit="s",
        detail=f"set by {change.clock_moved_s:+.3f} s, by the CPU's counter",
    )
