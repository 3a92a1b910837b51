"""Resuming guests that are ours, until each of them runs or is known to be dead.

The one way in which the run, its guardian and ``harness recover`` resume: concurrently, one
failure never prevents the next, nothing that can block for ever is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from harness.core.errors import HarnessError, TakenOver
from harness.core.fanout import Answer, fan_out
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline, NotYet, wait_for
from harness.host.protocol import GuestState, Hypervisor
from harness.maintenance.pause.ownership import NOT_OURS, resumed_since
from harness.results.journal import Entry, Member, Reading, entries, fold

#: One attempt; a libvirtd that answers at all answers within this.
ATTEMPT_S = 10.0
_AGAIN_S = 0.05
#: A guest that runs when we come to resume it may have a pause of ours on its way: the call that
#: a dead run made last. libvirt takes milliseconds from the call to the pause.
_SETTLED_S = 1.0


class Notes(Protocol):
    """What resuming asks of a journal."""

    def note(self, entry: Entry) -> None:
        """Write an entry. Never raises."""

    def read(self) -> Reading:
        """Return what can be read now. Raises a HarnessError."""


@dataclass(frozen=True)
class Resumed:
    """A guest that runs again; the host's CLOCK_MONOTONIC."""

    paused_until_ns: int | None
    """Until then it was surely paused; None if it was not we who resumed it."""
    running_since_ns: int
    """From then on, at the latest, it ran."""


def resume_all(
    members: Sequence[Member],
    hypervisor: Hypervisor,
    journal: Notes,
    *,
    by: str,
    patience_s: float,
    since_ns: int,
    resuming: Callable[[Member], None] = lambda member: None,
    clock: Clock = SYSTEM_CLOCK,
) -> dict[str, Answer[Resumed]]:
    """Resume ``members`` and journal each as soon as it runs; an answer for each by name.

    ``by`` is who resumes, for the journal. ``since_ns`` (CLOCK_MONOTONIC) is when our pause
    began: a guest that was resumed after that is not resumed again (TakenOver, unless one of ours
    did it). ``resuming`` is called right before each attempt; what it raises is dropped.
    """
    journal.note(entries.Resuming(by, tuple(members)))
    deadline = Deadline.after(patience_s, clock)
    calls = {
        member.name: partial(_resume, member, hypervisor, journal, by, since_ns, deadline, resuming)
        for member in members
    }
    return fan_out(calls, deadline, what="resuming")


def _resume(
    member: Member,
    hypervisor: Hypervisor,
    journal: Notes,
    by: str,
    since_ns: int,
    deadline: Deadline,
    resuming: Callable[[Member], None],
) -> Resumed:
    """Try until the guest runs; give up only when it is dead, or patience is over."""
    if _resumed_by_another(hypervisor, member, since_ns):
        if _announced(journal, member, by):
            return Resumed(None, deadline.clock.monotonic_ns())  # one of ours was faster
        journal.note(entries.TakenOver(member.name, member.uuid, by))
        raise TakenOver(
            "was resumed by somebody else during the pause, and was left as it is",
            operation="resuming",
            guest=member.name,
        )

    ran: Resumed | None = None

    def attempt() -> Resumed:
        nonlocal ran
        with suppress(Exception):
            resuming(member)
        try:
            call = hypervisor.resume(member.uuid, deadline.sooner(ATTEMPT_S))
        except NOT_OURS as error:
            journal.note(entries.Ended(member.name, member.uuid, error.message))
            raise  # shut off, crashed or gone: there is nothing left to resume
        except HarnessError as error:
            raise NotYet(str(error)) from error
        except BaseException as error:  # out of memory, a bug of ours: the guest is still paused
            raise NotYet(f"{type(error).__name__}: {error}") from error
        if call is not None:
            return Resumed(call.began_ns, call.returned_ns)
        now_ns = deadline.clock.monotonic_ns()
        ran = ran or Resumed(None, now_ns)
        if now_ns - ran.running_since_ns < _SETTLED_S * NS_PER_S:
            raise NotYet("it runs; whether a pause is on its way is not known yet")
        return ran

    resumed = wait_for(attempt, what="resuming", deadline=deadline, interval_s=_AGAIN_S)
    journal.note(entries.Resumed(member.name, member.uuid, by))
    return resumed


def _resumed_by_another(hypervisor: Hypervisor, member: Member, since_ns: int) -> bool:
    try:
        return resumed_since(hypervisor.events(member.uuid), since_ns)
    except Exception:  # noqa: BLE001  no error of any class comes before the resume
        return False


def _announced(journal: Notes, member: Member, by: str) -> bool:
    """Return True if another process of this run has started to resume this guest."""
    try:
        guest = fold(journal.read()).guests.get(member.uuid)
    except Exception:  # noqa: BLE001  no journal: it announces nothing
        return False
    return guest is not None and bool(guest.resuming_by - {by})


def as_data(members: Sequence[Member]) -> list[dict[str, str]]:
    """Return ``members`` as a message to the guardian names them."""
    return [{"name": member.name, "uuid": member.uuid} for member in members]


def still_paused(
    members: Sequence[Member], hypervisor: Hypervisor, deadline: Deadline, *, if_silent: bool
) -> tuple[str, ...]:
    """Which of ``members`` are paused, asked anew.

    ``if_silent`` is what one is taken for of whom libvirt says nothing: True for a guest that was
    last known to be paused.
    """
    names = []
    for member in members:
        try:
            paused = hypervisor.state(member.uuid, deadline).state is GuestState.PAUSED
        except HarnessError:
            paused = if_silent
        if paused:
            names.append(member.name)
    return tuple(names)
