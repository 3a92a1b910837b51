"""Promise: a TCP session into the guest survives; every byte arrives, once, and in order."""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks.evidence import Evidence, Missing, missing
from harness.core.records import CheckRecord, Outcome

NAME = "tcp-session"


@dataclass(frozen=True)
class TcpSession:
    """What became of numbered messages that the guest sends back as they come."""

    over: str
    """``tcp`` (a connection of its own) or ``ssh`` (a channel of the SSH connection)."""
    sent: int
    answered: int
    answered_after: int
    """Of those, sent and answered when the pause was over."""
    wrong: int
    """Answers that were not the next message."""
    broken: str | None
    """Why the connection ended, if it did."""
    retransmissions: int | None
    """TCP segments that the host's kernel sent again."""


NEEDS = TcpSession


def judge(evidence: Evidence) -> CheckRecord:
    """Messages that were lost, or came in another order."""
    seen = evidence.told(TcpSession)
    if isinstance(seen, Missing):
        return missing(NAME, seen)
    if not seen.sent:
        return missing(NAME, Missing("no message was sent", known_before=False))
    lost = seen.sent - seen.answered
    if not (seen.answered_after or lost or seen.wrong or seen.broken):
        return missing(NAME, Missing("no message was sent after the pause", known_before=False))
    retransmitted = "" if seen.retransmissions is None else f", {seen.retransmissions} sent again"
    told = (
        f"{seen.answered} of {seen.sent} messages over {seen.over}, "
        f"{seen.answered_after} of them after the pause{retransmitted}"
    )
    return CheckRecord(
        name=NAME,
        outcome=Outcome.FAIL if lost or seen.wrong or seen.broken else Outcome.PASS,
        measured=lost + seen.wrong,
        allowed=0,
        unit="messages",
        detail=f"{seen.broken}; {told}" if seen.broken else told,
    )
