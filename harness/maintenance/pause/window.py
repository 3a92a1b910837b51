"""THE critical section: pause → update → resume, always.

1. Before: the intent is journalled and on disk, and the guardian has acknowledged it. Everything
   else that can fail has been done by :mod:`harness.maintenance.run` already: preflight, logins,
   baselines, the update's own preparation.
2. ``t0``, the first call that pauses. All guests of the update domain are paused, concurrently.
   A guest that was paused already is not ours and is never resumed by us.
3. The update runs in a thread of its own until ``budget − resume reserve``. When that passes, the
   guardian dies, or a signal asks the run to stop, the update is given up; the guests are not. It
   is ended after step 4, because it may have restarted the libvirtd that resumes them.
4. ``finally``: every guest that we paused, or may have paused, is resumed, concurrently; one
   failure never prevents the next; nothing that can block without end is waited for.
5. ``t1`` when the last guest ran again. t1 − t0 on the host's monotonic clock is the outer bound
   of the pause and is what the budget is judged against.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from harness.core.errors import (
    DeadlineExpired,
    GuardianLost,
    HarnessError,
    InfrastructureError,
    JournalError,
)
from harness.core.fanout import Answer, FanOut, errors, hire
from harness.core.signals import Interruption
from harness.core.timebase import Clock, Deadline, boot_ahead_ns
from harness.host.parking import Parking
from harness.host.protocol import Call, Hypervisor
from harness.maintenance.pause.applying import UpdateOutcome, apply_update
from harness.maintenance.pause.ending import Ending
from harness.maintenance.pause.guard import Guard
from harness.maintenance.pause.life import life_if_seen
from harness.maintenance.pause.outcome import GuestPause, PauseWindow
from harness.maintenance.pause.parkable import parking_of
from harness.maintenance.pause.resume import Resumed, resume_all
from harness.maintenance.pause.takeover import NOT_OURS
from harness.maintenance.pause.telling import Teller
from harness.maintenance.pause.terms import NO_EDGES, Edges, Limits, UpdateCalls
from harness.results.journal import Journal, Member, entries, fold

#: For what an update is just doing to a guest itself; no guest is resumed under its hands.
_QUIESCE_S = 5.0
#: Of the window and of the driver, to pause and, should that hang, to resume.
_THREADS_A_GUEST = 4
#: To abandon an update is to ask for its end, not to wait for that.
_ABANDON_S = 1.0
#: For looking at a guest's process, in files of the kernel's.
_LOOK_S = 1.0
#: For the look at all guests before they are paused. Without it each pause looks for itself.
_FORESEE_S = 2.0
#: After this the journal and the probes learn of guests that are paused, though others are not yet.
_TOGETHER_S = 0.25
#: What is still told of pauses when the update is over keeps guests waiting for no longer.
_TELLING_S = 1.0


def hold_window(
    members: Sequence[Member],
    update: UpdateCalls,
    *,
    hypervisor: Hypervisor,
    journal: Journal,
    interruption: Interruption,
    guard: Guard,
    limits: Limits,
    edges: Edges = NO_EDGES,
) -> PauseWindow:
    """Pause ``members``, apply the update, resume them whatever happened; never raises for them.

    Raises JournalError before anything is paused if the intent cannot be written, GuardianLost if
    the guardian does not answer, and Interrupted if we were asked to stop before the first pause.
    """
    interruption.check()
    parkings = _parkings(journal)
    hire(_THREADS_A_GUEST * len(members))
    ending = _ending(update)
    teller = Teller(hypervisor, journal, edges, limits.clock)
    journal.intend(entries.Pausing(tuple(members), _lives(members, hypervisor, limits.clock)))
    _arm(guard, limits, update.mark, members, journal)
    armed_ns = limits.clock.monotonic_ns()
    with suppress(HarnessError):
        look_until = Deadline.after(_FORESEE_S, limits.clock)
        hypervisor.about_to_pause([member.uuid for member in members], look_until)
    update_until = limits.update_deadline()
    pauses: dict[str, Answer[Call]] = {}
    done = UpdateOutcome()
    try:
        pauses = _pause_all(members, hypervisor, journal, teller, update_until)
        if not errors(pauses):
            # Who parks guests writes of them too, and what it writes comes after.
            told = not parkings or teller.wait(update_until.remaining_s())
            done = (
                apply_update(update, ending, update_until, interruption, guard)
                if told
                else UpdateOutcome(error=DeadlineExpired("telling of pauses", update_until.limit_s))
            )
    finally:
        with suppress(Exception):
            update.quiesce(Deadline.after(_QUIESCE_S, limits.clock))
        judged = teller.end(_TELLING_S)
        resumes = resume_all(
            _perhaps_ours(members, pauses),
            hypervisor,
            journal,
            by="run",
            since_ns=armed_ns,
            deadline=limits.resume_deadline(),
            judged=None if parkings else judged,
            parkings=parkings,
            resuming=edges.resuming,
        )
        ended_ns = limits.clock.monotonic_ns()
    ending.free(_ABANDON_S)
    earlier = _resumed_by_guardian(journal, armed_ns, limits.clock)
    guests = {
        m.name: _story(pauses[m.name], resumes.get(m.name), earlier.get(m.uuid)) for m in members
    }
    ends = (guests[name].resume_returned_ns or ended_ns for name in resumes)
    window = PauseWindow(
        t0_ns=min(guest.pause_began_ns for guest in guests.values()),
        t1_ns=max(ends, default=ended_ns),
        guests=guests,
        update_s=done.took_s,
        applied=done.applied,
        update_error=done.error,
        rescued=bool(earlier),
    )
    if not window.stuck:
        guard.disarm()  # else it goes on trying, also when we are gone
    return window


def resume_late(
    members: Sequence[Member],
    window: PauseWindow,
    *,
    hypervisor: Hypervisor,
    journal: Journal,
    guard: Guard,
    deadline: Deadline,
) -> PauseWindow:
    """Resume the guests that could not be resumed, when something was done about the reason.

    Returns ``window`` with what became of them now. Never raises for them.
    """
    left = [member for member in members if window.guests[member.name].stuck]
    resumes = resume_all(
        left,
        hypervisor,
        journal,
        by="run",
        since_ns=window.t1_ns,  # a call that was given up may have resumed it meanwhile
        deadline=deadline,
    )
    earlier = _resumed_by_guardian(journal, window.t0_ns, deadline.clock)
    again = {
        m.name: _resumed(window.guests[m.name], resumes[m.name], earlier.get(m.uuid)) for m in left
    }
    late = replace(
        window,
        t1_ns=max(window.t1_ns, *(guest.resume_returned_ns or 0 for guest in again.values())),
        guests={**window.guests, **again},
        rescued=window.rescued or bool(earlier),
    )
    if not late.stuck:
        guard.disarm()
    return late


def _parkings(journal: Journal) -> dict[str, Parking]:
    """The guests that the update may park, by UUID. Raises JournalError."""
    said = fold(journal.read()).parkable
    return {uuid: parking_of(one) for uuid, one in said.items()}


def _ending(update: UpdateCalls) -> Ending:
    try:
        return Ending(update.abandon)
    except RuntimeError as error:
        raise InfrastructureError(
            f"{error}; nothing was paused", hint="see ulimit -u, and pids.max of the control group"
        ) from error


def _lives(
    members: Sequence[Member], hypervisor: Hypervisor, clock: Clock
) -> tuple[entries.Life, ...]:
    """What tells later whose pause it is, should this process die before it can write ``paused``.

    Nothing is waited for: a guest that cannot be seen is paused without.
    """
    found = []
    for member in members:
        seen = life_if_seen(member.uuid, hypervisor, Deadline.after(_LOOK_S, clock))
        if seen.process is not None:
            pid, start_ticks = seen.process.pid, seen.process.start_ticks
            found.append(entries.Life(member.uuid, pid, start_ticks, seen.vcpu_ns))
    return tuple(found)


def _arm(
    guard: Guard, limits: Limits, mark: str, members: Sequence[Member], journal: Journal
) -> None:
    """The run itself resumes at budget − reserve; its guardian comes in half-way to the budget."""
    try:
        guard.arm(limits.guardian_s, mark, members, limits.resume_patience_s)
    except GuardianLost:
        for member in members:
            journal.note(entries.Refused(member.name, member.uuid, "no guardian"))
        raise
    journal.note(entries.Armed(limits.guardian_s))


def _pause_all(
    members: Sequence[Member],
    hypervisor: Hypervisor,
    journal: Journal,
    teller: Teller,
    deadline: Deadline,
) -> dict[str, Answer[Call]]:
    """Pause all at once; nothing else is done until all are paused, or one keeps others waiting."""

    def pause(member: Member) -> Call:
        try:
            return hypervisor.pause(member.uuid, deadline)
        except NOT_OURS as error:  # at once: who comes after a crash must not resume it
            journal.note(entries.Refused(member.name, member.uuid, error.message))
            raise

    calls = {one.name: partial(pause, one) for one in members}
    begun = FanOut(calls, deadline, what="pausing")
    if not begun.wait(deadline.sooner(_TOGETHER_S)):
        teller.tell(members, begun.returned())
        begun.wait(deadline)
    pauses = begun.answers()
    teller.tell(members, pauses)
    return pauses


def _perhaps_ours(members: Sequence[Member], pauses: dict[str, Answer[Call]]) -> Sequence[Member]:
    """Every guest that we paused or may have paused."""

    def refused(member: Member) -> bool:
        answer = pauses.get(member.name)
        return answer is not None and isinstance(answer.error, NOT_OURS)

    return [member for member in members if not refused(member)]


def _resumed_by_guardian(journal: Journal, t0_ns: int, clock: Clock) -> dict[str, int]:
    """Return, by UUID, when (CLOCK_MONOTONIC) the guardian resumed a guest that we could not."""
    try:
        guests = fold(journal.read()).guests
    except JournalError:
        return {}
    ahead_ns = boot_ahead_ns(clock)
    stamps = {
        uuid: guest.resumed_ns["guardian"] - ahead_ns
        for uuid, guest in guests.items()
        if "guardian" in guest.resumed_ns
    }
    return {uuid: at_ns for uuid, at_ns in stamps.items() if at_ns >= t0_ns}


def _story(
    pause: Answer[Call], resume: Answer[Resumed] | None, by_guardian_ns: int | None
) -> GuestPause:
    paused = pause.value or Call(pause.began_ns, pause.returned_ns)
    began = GuestPause(paused.began_ns, paused.returned_ns, pause_error=_ours(pause.error))
    return _resumed(began, resume, by_guardian_ns)


def _resumed(
    pause: GuestPause, resume: Answer[Resumed] | None, by_guardian_ns: int | None
) -> GuestPause:
    resumed = resume.value if resume else None
    running_ns = resumed.running_since_ns if resumed else None
    return replace(
        pause,
        resume_began_ns=resumed.paused_until_ns if resumed else None,
        resume_returned_ns=running_ns if by_guardian_ns is None else by_guardian_ns,
        resume_error=_ours(resume.error) if resume else None,
    )


def _ours(error: BaseException | None) -> HarnessError | None:
    if error is None or isinstance(error, HarnessError):
        return error
    raise error  # a bug; by now every guest has been resumed
