"""Promise: seen from outside, the guest was silent for its pause, no longer, and in all of it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks.evidence import Evidence, Missing, missing, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "downtime"
#: How much longer than the pause a client may wait: emulated guests are slow to wake up.
ALLOWED_MORE_S = 1.0


@dataclass(frozen=True)
class Downtime:
    """What a prober on the host saw; None: no answer has come after the pause."""

    kind: str
    """``udp`` (a process of the guest answers) or ``icmp`` (its kernel does)."""
    interval_s: float
    """Between two probes, right before the pause."""
    silent_s: float | None
    """The longest silence around the pause: last good answer → first good answer."""
    silent_at_least_s: float
    """How long it has been silent when the prober was stopped, if no answer came."""
    sent: int
    answered: int


NEEDS = Downtime


def judge(evidence: Evidence) -> CheckRecord:
    """The silence against the pause, seconds.

    Much longer: the guest came back late. Shorter: it answered while it should have stood still.
    """
    seen, pause = evidence.told(Downtime), evidence.pause_s
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    if pause is None or evidence.paused_at_most_s is None or evidence.paused_at_least_s is None:
        return unknown(NAME, "the guest was not paused and resumed by this run")
    allowed_s = evidence.paused_at_most_s + ALLOWED_MORE_S
    silent_s = seen.silent_at_least_s if seen.silent_s is None else seen.silent_s
    # An answer may still be under way when the guest is paused already, so up to one is forgiven.
    early = seen.silent_s is not None and seen.silent_s + _FORGIVEN_S < evidence.paused_at_least_s
    late = silent_s > allowed_s
    if seen.silent_s is None and not late:
        return unknown(NAME, f"no answer for {silent_s:.3f} s, then the prober was stopped")
    told = (
        f"paused for {evidence.paused_at_most_s:.3f} s; {seen.answered} of {seen.sent} {seen.kind}"
    )
    return CheckRecord(
        name=NAME,
        outcome=Outcome.FAIL if early or late else Outcome.PASS,
        measured=silent_s,
        allowed=allowed_s,
        unit="s",
        detail=("answered while it was paused; " if early else "")
        + f"{told} probes answered, one every {seen.interval_s * 1000:g} ms at its edges",
    )


_FORGIVEN_S = 0.1
