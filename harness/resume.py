"""Resuming guests that are ours, until each of them runs or is known to be dead.

The one way in which the run, its guardian and ``harness recover`` resume: concurrently, one
failure never prevents the next, nothing that can block for ever is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness.custody import Member, announced, resumed_since
from harness.errors import (
    DeadlineExpired,
    GuestNotFound,
    HarnessError,
    HypervisorError,
    JournalError,
    TakenOver,
    WrongState,
)
from harness.fanout import Answer, fan_out
from harness.host.protocol import Hypervisor
from harness.journal import Journal, read
from harness.lifecycle import GuestState
from harness.timebase import SYSTEM_CLOCK, Clock, Deadline, NotYet, wait_for

#: One attempt; a libvirtd that answers at all answers within this.
ATTEMPT_S = 10.0
_AGAIN_S = 0.05


def resume_all(
    members: Sequence[Member],
    hypervisor: Hypervisor,
    journal: Journal,
    *,
    by: str,
    patience_s: float,
    since_ns: int,
    clock: Clock = SYSTEM_CLOCK,
) -> dict[str, Answer[int | None]]:
    """Resume ``members`` and journal each as soon as it runs; an answer for each by name.

    The value of an answer is the moment (CLOCK_MONOTONIC, ns) until which the guest was surely
    paused, if it is known.

    ``by`` is who resumes, for the journal. ``since_ns`` (CLOCK_MONOTONIC) is when our pause
    began: a guest that was resumed after that is not resumed again (TakenOver, unless one of ours
    did it).
    """
    journal.note("resuming", by=by, guests=as_data(members))
    deadline = Deadline.after(patience_s, clock)
    calls = {
        member.name: partial(_resume, member, hypervisor, journal, by, since_ns, deadline)
        for member in members
    }
    return fan_out(calls, deadline, what="resuming", clock=clock)


def _resume(
    member: Member,
    hypervisor: Hypervisor,
    journal: Journal,
    by: str,
    since_ns: int,
    deadline: Deadline,
) -> int | None:
    """Try until the guest runs; give up only when it is dead, or patience is over."""
    if resumed_since(hypervisor.events(member.uuid), since_ns):
        if _announced(journal, member, by):
            return None  # one of ours was faster
        journal.note("taken over", guest=member.name, uuid=member.uuid, seen_by=by)
        raise TakenOver(
            "was resumed by somebody else during the pause, and was left as it is",
            operation="resuming",
            guest=member.name,
        )

    def attempt() -> int | None:
        try:
            return hypervisor.resume(member.uuid, deadline.sooner(ATTEMPT_S))
        except (WrongState, GuestNotFound) as error:
            journal.note("ended", guest=member.name, uuid=member.uuid, state=error.message)
            raise  # shut off, crashed or gone: there is nothing left to resume
        except (HypervisorError, DeadlineExpired) as error:
            raise NotYet(str(error)) from error

    began_ns = wait_for(attempt, what="resuming", deadline=deadline, interval_s=_AGAIN_S)
    journal.note("resumed", guest=member.name, uuid=member.uuid, by=by)
    return began_ns


def _announced(journal: Journal, member: Member, by: str) -> bool:
    try:
        return announced(read(journal.path), member, besides=by)
    except JournalError:
        return False


def as_data(members: Sequence[Member]) -> list[dict[str, str]]:
    """``members`` as a journal entry names them."""
    return [{"name": member.name, "uuid": member.uuid} for member in members]


def still_paused(
    members: Sequence[Member], hypervisor: Hypervisor, deadline: Deadline
) -> tuple[str, ...]:
    """Which of ``members`` are really paused, asked anew; one that does not answer is not proven
    to be."""
    names = []
    for member in members:
        try:
            if hypervisor.state(member.uuid, deadline).state is GuestState.PAUSED:
                names.append(member.name)
        except HarnessError:
            continue
    return tuple(names)
