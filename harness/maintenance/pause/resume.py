"""Resuming guests that are ours, until each of them runs or is known to be dead.

The one way in which the run, its guardian and ``harness recover`` resume: concurrently, one
failure never prevents the next, nothing that can block without end is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from harness.core.errors import GuestSaved, HarnessError, ResumeFailed, TakenOver
from harness.core.fanout import Answer, fan_out
from harness.core.timebase import NS_PER_S, Clock, Deadline, NotYet, boot_ahead_ns, wait_for
from harness.host.parking import Parking
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.absence import Fate, fate_of, lost
from harness.maintenance.pause.life import process_of
from harness.maintenance.pause.looks import BY_US, Looks
from harness.maintenance.pause.stranded import told
from harness.maintenance.pause.takeover import NOT_OURS, PauseEdge
from harness.maintenance.pause.unparking import Moved, Return, edge_of, returns
from harness.results.journal import Entry, GuestCustody, Member, Reading, entries

#: One attempt; a libvirtd that answers at all answers within this.
ATTEMPT_S = 10.0
_AGAIN_S = 0.05
#: A start that is refused is dear, and has two lines in the journal. So each waits a tenth of what
#: all took before, and a guest is back a tenth later at most.
_AGAIN_SHARE = 0.1
#: A guest that runs when we come to resume it may have a pause by harness on its way: the call that
#: a dead run made last. libvirt takes milliseconds from the call to the pause.
_SETTLED_S = 1.0
#: A guest that libvirt does not know any more is looked for no longer than this.
_LOST_S = 10.0


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
    since_ns: int,
    deadline: Deadline,
    judged: Mapping[str, PauseEdge] | None = None,
    parkings: Mapping[str, Parking] | None = None,
    resuming: Callable[[Member], None] = lambda member: None,
    booted_since: bool = False,
) -> dict[str, Answer[Resumed]]:
    """Resume ``members`` and journal each as soon as it runs; an answer for each by name.

    ``by`` is who resumes, for the journal. ``since_ns`` (CLOCK_MONOTONIC) is when our pause
    began: a guest that was resumed after that is not resumed again (TakenOver, unless harness
    did it). ``judged`` (by UUID) goes before what the journal says of our pause, for guests
    whose custody the caller has judged itself. ``parkings`` (by UUID) are the guests that may be
    parked, as known before; the journal may know more, but for an empty mapping together with all
    of ``judged``. A guest that does not run by ``deadline``
    is given up. ``resuming`` is called right before each attempt; what it raises is dropped.
    ``booted_since``: the host was booted since the pause, so that no guest is parked any more.
    """
    journal.note(entries.Resuming(by, tuple(members)))
    judged = judged or {}
    # To read it takes time. It says nothing new of guests that are known, and that none may park.
    needed = parkings is None or parkings or any(one.uuid not in judged for one in members)
    known = told(journal) if needed else {}
    edges = {
        one.name: judged.get(one.uuid) or _edge(known.get(one.uuid), since_ns, deadline.clock)
        for one in members
    }
    back: dict[str, Return] = {}
    if not booted_since:
        back = returns(parkings or {}, known, hypervisor, journal, by, deadline)

    looks = Looks(hypervisor, journal, by, resuming)
    looks.take({one: edges[one.name] for one in members if one.uuid not in back}, deadline)

    def bring_back(member: Member) -> Resumed:
        way = back.get(member.uuid)
        edge = edges[member.name]
        if way is None:
            return _resume(member, hypervisor, journal, by, edge, deadline, looks)
        return _unpark_and_resume(member, way, journal, edge, looks)

    calls = {one.name: partial(bring_back, one) for one in members}
    return fan_out(calls, deadline, what="resuming")


def _unpark_and_resume(
    member: Member,
    way: Return,
    journal: Notes,
    edge: PauseEdge,
    looks: Looks,
) -> Resumed:
    """Resume a guest that may be parked; what was kept for it goes when it runs, or has ended."""

    def attempt() -> Resumed:
        nonlocal edge
        if not way.known:
            edge = way.attempt(edge)
        way.known = False
        try:
            return _resume(
                member, way.hypervisor, journal, way.by, edge, way.deadline, looks, way.there
            )
        except Moved as moved:
            raise NotYet(str(moved)) from moved

    try:
        resumed = wait_for(
            attempt,
            what="resuming",
            deadline=way.deadline,
            interval_s=_AGAIN_S,
            share=_AGAIN_SHARE,
        )
    except (TakenOver, *NOT_OURS):
        way.settle()
        raise
    way.settle()
    return resumed


def _resume(
    member: Member,
    hypervisor: Hypervisor,
    journal: Notes,
    by: str,
    edge: PauseEdge,
    deadline: Deadline,
    looks: Looks,
    there: Callable[[], bool] = lambda: False,
) -> Resumed:
    """Try until the guest runs; give up only when it is dead, or patience is over.

    Raises Moved for one that has no QEMU to be resumed, but is ``there`` all the same.
    """
    if why := looks.why_lost(member, edge, deadline):
        if why == BY_US:
            return Resumed(None, deadline.clock.monotonic_ns())  # another process was faster
        journal.note(entries.TakenOver(member.name, member.uuid, by))
        raise TakenOver(f"{why}, and was left as it is", operation="resuming", guest=member.name)

    ran: Resumed | None = None
    settled_s = min(
        _SETTLED_S, deadline.remaining_s() / 2
    )  # little patience is no proof of a pause
    lost_until = deadline.sooner(_LOST_S)

    def attempt() -> Resumed:
        nonlocal ran
        looks.tell(member)
        try:
            call = hypervisor.resume(member.uuid, deadline.sooner(ATTEMPT_S))
        except NOT_OURS as error:
            if there():
                raise Moved(error.message) from error
            raise _fate(member, edge, error, hypervisor, journal, by, lost_until) from error
        except HarnessError as error:
            raise NotYet(str(error)) from error
        except BaseException as error:  # out of memory, a bug: the guest is still paused
            raise NotYet(f"{type(error).__name__}: {error}") from error
        if call is not None:
            return Resumed(call.began_ns, call.returned_ns)
        now_ns = deadline.clock.monotonic_ns()
        ran = ran or Resumed(None, now_ns)
        if now_ns - ran.running_since_ns < settled_s * NS_PER_S:
            raise NotYet("it runs; whether a pause is on its way is not known yet")
        return ran

    resumed = wait_for(attempt, what="resuming", deadline=deadline, interval_s=_AGAIN_S)
    journal.note(entries.Resumed(member.name, member.uuid, by))
    return resumed


def _fate(
    member: Member,
    edge: PauseEdge,
    refused: HarnessError,
    hypervisor: Hypervisor,
    journal: Notes,
    by: str,
    lost_until: Deadline,
) -> HarnessError:
    """Return what is to be raised for a guest that libvirt reported as gone."""
    until = Deadline.after(ATTEMPT_S, lost_until.clock)
    try:
        fate = fate_of(member.uuid, edge.process, hypervisor, until)
    except HarnessError as error:
        return NotYet(f"{refused.message}; {error}")
    if fate is Fate.ENDED:
        journal.note(entries.Ended(member.name, member.uuid, refused.message))
        return refused
    if fate is Fate.SAVED:
        from harness.core.pasteable import virsh  # the guardian has no room for what is rare

        journal.note(entries.Saved(member.name, member.uuid, by))
        return GuestSaved(
            "was saved to disk during the pause, and comes back paused",
            operation="resuming",
            guest=member.name,
            hint=f"{virsh(hypervisor.uri, 'start', member.name, member.uuid)}; harness recover",
        )
    if fate is Fate.AWAY:
        return ResumeFailed(
            "was migrated to another host during the pause, and is paused there unless something "
            "has resumed it",
            operation="resuming",
            guest=member.name,
            hint="harness recover --uri URI, with that of the other host",
        )
    if fate is Fate.LOST and edge.process is not None and lost_until.expired:
        return lost(member.name, edge.process)
    return NotYet(refused.message)


def _edge(custody: GuestCustody | None, since_ns: int, clock: Clock) -> PauseEdge:
    """From where on custody is judged: our own pause, or ``since_ns`` if that is later."""
    if custody is not None and custody.unpark is not None:
        return edge_of(custody.unpark, clock)
    pause = custody.pause if custody is not None else None
    process = process_of(custody)
    if pause is None:
        return PauseEdge(since_ns, process)
    began_ns = (pause.began_ns or 0) - boot_ahead_ns(clock)
    if began_ns < since_ns:  # an attempt since may have let it run for a while
        return PauseEdge(since_ns, process)
    return PauseEdge(began_ns, process, pause.vcpu_ns)
