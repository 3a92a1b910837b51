"""THE critical section: pause → update → resume, always.

1. Before: the intent is journalled and on disk. Everything else that can fail has been done by
   :mod:`harness.run` already: preflight, logins, baselines, the update's own preparation.
2. ``t0``. All guests of the update domain are paused, concurrently. A guest that was paused
   already is not ours and is never resumed by us.
3. The update runs in a thread of its own until ``budget − resume reserve``. When that passes, or
   somebody asks us to stop, the update is abandoned; the guests are not.
4. ``finally``: every guest that we paused, or may have paused, is resumed, concurrently; one
   failure never prevents the next; nothing that can block for ever is waited for.
5. ``t1`` when the last resume returned. t1 − t0 on the host's monotonic clock is the outer bound
   of the pause and is what the budget is judged against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from harness.errors import (
    DeadlineExpired,
    GuestNotFound,
    HarnessError,
    HypervisorError,
    Interrupted,
    UpdateOverran,
    WrongState,
)
from harness.fanout import Answer, errors, fan_out
from harness.host.protocol import Hypervisor
from harness.interruption import Interruption, Job
from harness.journal import Journal
from harness.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline, NotYet, Stopwatch, wait_for
from harness.updates.protocol import Applied

#: How long we keep trying to resume before we call a guest stranded. Far beyond any budget:
#: giving up early would help nobody.
RESUME_PATIENCE_S = 60.0
#: One attempt; a libvirtd that answers at all answers within this.
RESUME_ATTEMPT_S = 10.0


@dataclass(frozen=True)
class Member:
    """A guest of the update domain."""

    name: str
    uuid: str


@dataclass(frozen=True)
class GuestPause:
    """One guest's way through the window; stamps are the host's CLOCK_MONOTONIC."""

    pause_began_ns: int
    pause_returned_ns: int
    resume_began_ns: int | None = None
    resume_returned_ns: int | None = None
    pause_error: HarnessError | None = None
    resume_error: HarnessError | None = None

    @property
    def outer_s(self) -> float | None:
        """The longest the guest can have been paused: pause call began → resume returned."""
        return _between(self.pause_began_ns, self.resume_returned_ns)

    @property
    def inner_s(self) -> float | None:
        """The shortest it can have been paused: pause returned → resume call began."""
        return _between(self.pause_returned_ns, self.resume_began_ns)


def _between(start_ns: int, end_ns: int | None) -> float | None:
    return None if end_ns is None else (end_ns - start_ns) / NS_PER_S


@dataclass
class PauseWindow:
    """What happened in the critical section."""

    t0_ns: int
    t1_ns: int
    guests: dict[str, GuestPause] = field(default_factory=dict)
    """By guest name."""
    update_s: float | None = None
    applied: Applied | None = None
    update_error: HarnessError | None = None

    @property
    def duration_s(self) -> float:
        """The pause window: before the first pause call → after the last resume returned."""
        return (self.t1_ns - self.t0_ns) / NS_PER_S


@dataclass(frozen=True)
class UpdateCalls:
    """The two things the window may ask of an update."""

    apply: Callable[[Deadline], Applied]
    abandon: Callable[[], None]


def hold_window(
    members: Sequence[Member],
    update: UpdateCalls,
    *,
    hypervisor: Hypervisor,
    journal: Journal,
    interruption: Interruption,
    budget_s: float,
    resume_reserve_s: float,
    clock: Clock = SYSTEM_CLOCK,
) -> PauseWindow:
    """Pause ``members``, apply the update, resume them whatever happened; never raises for them.

    Raises JournalError before anything is paused if the intent cannot be written, and Interrupted
    if we were asked to stop before the first pause.
    """
    interruption.check()
    journal.intend("pausing", guests=[{"name": m.name, "uuid": m.uuid} for m in members])
    window = PauseWindow(t0_ns=clock.monotonic_ns(), t1_ns=0)
    update_until = Deadline.after(budget_s - resume_reserve_s, clock)
    pauses: dict[str, Answer[None]] = {}
    try:
        pauses = _pause_all(members, hypervisor, update_until, clock)
        journal.note("paused", guests=[name for name, a in pauses.items() if a.error is None])
        if not errors(pauses):
            _apply(window, update, update_until, interruption, clock)
    finally:
        resumes = _resume_all(_perhaps_ours(members, pauses), hypervisor, journal, clock)
        window.t1_ns = clock.monotonic_ns()
    journal.note("resumed", guests=[name for name, a in resumes.items() if a.error is None])
    window.guests = {m.name: _story(pauses[m.name], resumes.get(m.name)) for m in members}
    return window


def _pause_all(
    members: Sequence[Member], hypervisor: Hypervisor, deadline: Deadline, clock: Clock
) -> dict[str, Answer[None]]:
    calls = {m.name: partial(hypervisor.pause, m.uuid, deadline) for m in members}
    return fan_out(calls, deadline, what="pausing", clock=clock)


def _apply(
    window: PauseWindow,
    update: UpdateCalls,
    deadline: Deadline,
    interruption: Interruption,
    clock: Clock,
) -> None:
    """Run the update in its own thread and be done by the deadline, finished or not."""
    watch = Stopwatch(clock)
    try:
        job = Job(partial(update.apply, deadline), name="update")
        if interruption.finished(job, deadline):
            window.applied = job.result()
        else:
            update.abandon()
            window.update_error = _why_abandoned(interruption, deadline)
    except HarnessError as error:
        window.update_error = error
    window.update_s = watch.elapsed_s()


def _why_abandoned(interruption: Interruption, deadline: Deadline) -> HarnessError:
    if interruption.signal_name is not None:
        return Interrupted(interruption.signal_name)
    return UpdateOverran(
        f"the update was abandoned after {deadline.limit_s:.1f} s, the budget less the resume "
        "reserve; the guests were resumed",
        hint="give it a larger --budget, or make it faster",
    )


def _perhaps_ours(members: Sequence[Member], pauses: dict[str, Answer[None]]) -> Sequence[Member]:
    """Every guest that we paused or may have paused.

    Not ours is only what was refused before the pause call was made: it was paused by somebody
    else, shut off, or gone. After any other error the pause may still have happened.
    """

    def refused(member: Member) -> bool:
        answer = pauses.get(member.name)
        return answer is not None and isinstance(answer.error, WrongState | GuestNotFound)

    return [member for member in members if not refused(member)]


def _resume_all(
    members: Sequence[Member], hypervisor: Hypervisor, journal: Journal, clock: Clock
) -> dict[str, Answer[None]]:
    journal.note("resuming", guests=[m.name for m in members])
    deadline = Deadline.after(RESUME_PATIENCE_S, clock)
    calls = {m.name: partial(_resume, m, hypervisor, deadline) for m in members}
    return fan_out(calls, deadline, what="resuming", clock=clock)


def _resume(member: Member, hypervisor: Hypervisor, deadline: Deadline) -> None:
    """Try until the guest runs; give up only when it is dead or patience is over."""

    def attempt() -> None:
        try:
            hypervisor.resume(member.uuid, deadline.sooner(RESUME_ATTEMPT_S))
        except (WrongState, GuestNotFound):
            raise  # shut off, crashed or gone: there is nothing left to resume
        except (HypervisorError, DeadlineExpired) as error:
            raise NotYet(str(error)) from error

    wait_for(attempt, what="resuming", deadline=deadline, interval_s=0.05)


def _story(pause: Answer[None], resume: Answer[None] | None) -> GuestPause:
    def ours(error: BaseException | None) -> HarnessError | None:
        if error is None or isinstance(error, HarnessError):
            return error
        raise error  # a bug of ours; by now every guest has been resumed

    return GuestPause(
        pause_began_ns=pause.began_ns,
        pause_returned_ns=pause.returned_ns,
        resume_began_ns=resume.began_ns if resume else None,
        resume_returned_ns=resume.returned_ns if resume and resume.error is None else None,
        pause_error=ours(pause.error),
        resume_error=ours(resume.error) if resume else None,
    )
