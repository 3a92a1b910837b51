"""The maintenance of one update domain: baseline → pause window → clocks → checks → verdicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

from harness.core.errors import HarnessError, InfrastructureError, InternalError
from harness.core.records import GuestRecord, UpdateDomainRecord
from harness.core.settings import ChecksSection
from harness.core.signals import Interruption
from harness.core.timebase import Clock, Deadline, Suspension
from harness.host.protocol import Hypervisor
from harness.maintenance.after_resume import Aftermath, correct_and_observe
from harness.maintenance.baselines_kept import keep_baselines
from harness.maintenance.before_pause import take_baselines, warn_of_clocks
from harness.maintenance.guest_clock import ClockOutcome
from harness.maintenance.notice import Notice
from harness.maintenance.pause.guard import Guard
from harness.maintenance.pause.outcome import PauseWindow
from harness.maintenance.pause.terms import Edges, Limits, UpdateCalls
from harness.maintenance.pause.window import hold_window, resume_late
from harness.maintenance.plan import UpdateDomain
from harness.maintenance.progress import Meanwhile, Observer, Phase, Step
from harness.maintenance.resume_hint import resume_hint
from harness.maintenance.session import GuestSession
from harness.maintenance.since_resume import find_ended, find_paused
from harness.maintenance.swapped import look_at_parkable, look_at_swapped
from harness.maintenance.verdicts import keep_raw, record_domain, record_guest, record_untouched
from harness.results.folder import RunFolder
from harness.results.journal import Journal, Member, entries
from harness.results.report.words import in_short, offset
from harness.updates.protocol import (
    GuestUpdate,
    HostUpdate,
    LeavesThisKernel,
    SeveralUpdates,
    UpdateContext,
)

#: For asking whether a guest is really still paused. Not shared: nothing else may use it up.
_LOOK_S = 20.0
#: For resuming once more when the update has been rolled back: libvirt answers by then or not.
_LATE_S = 20.0
#: Baselines are taken again after this long, because guests may have to be waited for.
_FRESH_S = 30.0


@dataclass(frozen=True)
class Tools:
    """What every phase works with."""

    hypervisor: Hypervisor
    update: HostUpdate
    folder: RunFolder
    journal: Journal
    interruption: Interruption
    guard: Guard
    observer: Observer
    notice: Notice
    limits: Limits
    checks: ChecksSection
    prepare_timeout_s: float
    """For everything before the pause."""
    mend_timeout_s: float
    """For everything after the pause: clocks, checks, and the update's last word."""
    watch_s: float
    """For how long corrected clocks are watched, beside that."""

    @property
    def clock(self) -> Clock:
        """Where time comes from."""
        return self.limits.clock


@dataclass(frozen=True)
class DomainResult:
    """An update domain's record, its guests' records, and who is still paused."""

    record: UpdateDomainRecord
    guests: tuple[GuestRecord, ...]
    stranded: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What was known before the pause and will spoil a verdict."""


def maintain(
    domain: UpdateDomain,
    sessions: Mapping[str, GuestSession],
    context: UpdateContext,
    tools: Tools,
) -> DomainResult:
    """Carry out the maintenance of one update domain.

    Raises a HarnessError only for what fails before the first pause.
    """
    names = tuple(guest.name for guest in domain.guests)
    tell = partial(_tell, tools.observer, domain.name, names)
    mine = {name: sessions[name] for name in names}
    checks, run_dir = tools.checks, tools.folder.path
    before_until = Deadline.after(tools.prepare_timeout_s, tools.clock)

    tell(Phase.PREPARING, "preparing the update, taking baselines")
    tools.hypervisor.ready(len(names), before_until)
    tools.update.prepare(context, before_until)
    uuids = [guest.info.uuid for guest in domain.guests]
    described = look_at_parkable(uuids, tools.journal, tools.hypervisor, before_until)
    suspension = Suspension(tools.clock)
    baselines = take_baselines(mine, checks, run_dir, before_until)
    if announced := tools.notice.announce(domain):
        tell(Phase.WAITING, announced)
    while not tools.notice.wait(domain, _FRESH_S, tools.interruption):
        before_until = Deadline.after(tools.prepare_timeout_s, tools.clock)
        suspension = Suspension(tools.clock)
        baselines = take_baselines(mine, checks, run_dir, before_until)
    if isinstance(tools.update, LeavesThisKernel):  # another process judges by them
        keep_baselines(baselines, tools.folder)
    warnings = warn_of_clocks(mine, baselines)
    if warnings:
        tell(Phase.PREPARING, "; ".join(warnings))
    tools.journal.note(entries.UpdateDomainBegun(domain.name))
    tools.observer(
        Step(
            Phase.PAUSED,
            f"paused; applying the update ({tools.update.kind})",
            domain.name,
            names,
            Meanwhile(context.output("update"), lambda: tools.interruption.signal_name),
        )
    )
    window = _hold(domain, context, tools, mine)
    settled = None
    if window.update_error is not None and window.none_resumed:  # paused: none is notified yet
        settled = settle_update(window, context, tools)  # the update may be why
        window = _resume_late(domain, window, tools)

    tell(Phase.CORRECTING, f"{_how_it_went(window)}; correcting clocks")
    limit_s = tools.mend_timeout_s + tools.watch_s
    after = correct_and_observe(
        mine,
        baselines,
        window.guests,
        tools.journal,
        Deadline.after(limit_s, tools.clock),
        partial(_tell_corrected, tools, domain.name, Lock()),
    )
    suspended_s = suspension.seconds()
    look = (domain, window, tools.hypervisor)
    stranded, since = find_paused(*look, tools.journal, Deadline.after(_LOOK_S, tools.clock))
    since |= find_ended(*look, Deadline.after(_LOOK_S, tools.clock))
    hints = _resume_hints(domain, stranded, tools)
    problems = settle_update(window, context, tools) if settled is None else settled
    problems += keep_all(mine, after, tools.folder)
    look_until = Deadline.after(_LOOK_S, tools.clock)
    swapped = look_at_swapped(tools.journal, tools.hypervisor, look_until, described)
    guests = tuple(
        record_guest(
            mine[name],
            baselines[name],
            window,
            after[name],
            tools.hypervisor,
            budget_s=tools.limits.budget_s,
            checks=checks.chosen,
            swapped=swapped.get(name),
            resume_hint=hints.get(name),
            since=since.get(name, ""),
        )
        for name in names
    )
    parts = tools.update.parts if isinstance(tools.update, SeveralUpdates) else ()
    budget_s = tools.limits.budget_s
    record = record_domain(domain, window, guests, problems, budget_s, suspended_s, parts)
    for guest in guests:
        tools.observer(Step(Phase.CHECKED, in_short(guest), domain.name, (guest.name,)))
    return DomainResult(record, guests, stranded, warnings)


def _tell_corrected(
    tools: Tools, domain: str, one_at_a_time: Lock, name: str, outcome: ClockOutcome
) -> None:
    """Tell the observer of one guest's clock; the guest's own thread calls this."""
    left = f"watched for {tools.watch_s:g} s, then checked" if tools.watch_s else "being checked"
    said = f"clock {offset(outcome.after_correction)}; {left}"
    with one_at_a_time:
        tools.observer(Step(Phase.CORRECTED, said, domain, (name,)))


def _tell(
    observer: Observer, domain: str, guests: tuple[str, ...], phase: Phase, text: str
) -> None:
    observer(Step(phase, text, domain, guests))


def _hold(
    domain: UpdateDomain,
    context: UpdateContext,
    tools: Tools,
    sessions: Mapping[str, GuestSession],
) -> PauseWindow:
    watching = {name: one.probes for name, one in sessions.items() if one.probes is not None}

    def paused(member: Member) -> None:
        if member.name in watching:
            watching[member.name].paused()

    def resuming(member: Member) -> None:
        if member.name in watching:
            watching[member.name].resuming()

    for probes in watching.values():
        probes.pausing()
    return hold_window(
        [Member(guest.name, guest.info.uuid) for guest in domain.guests],
        UpdateCalls(
            partial(tools.update.apply, context),
            tools.update.abandon,
            context.mark("apply"),
            context.swap.quiesce if context.swap is not None else _nothing,
        ),
        hypervisor=tools.hypervisor,
        journal=tools.journal,
        interruption=tools.interruption,
        guard=tools.guard,
        limits=_limits(tools, len(domain.guests)),
        edges=Edges(paused, resuming),
    )


def _nothing(deadline: Deadline) -> None:
    """Most updates do nothing to guests."""


def _limits(tools: Tools, guests: int) -> Limits:
    """What an update of so many guests needs to bring them back is kept for that."""
    if not isinstance(tools.update, GuestUpdate):
        return tools.limits
    reserve_s = max(tools.limits.resume_reserve_s, tools.update.needs(guests).reserve_s)
    return replace(tools.limits, resume_reserve_s=reserve_s)


def _how_it_went(window: PauseWindow) -> str:
    stuck = ", ".join(name for name, pause in window.guests.items() if pause.stuck)
    how = f"{stuck} could not be resumed" if stuck else "resumed"
    return f"{how} after {window.duration_s:.3f} s"


def _resume_late(domain: UpdateDomain, window: PauseWindow, tools: Tools) -> PauseWindow:
    return resume_late(
        [Member(guest.name, guest.info.uuid) for guest in domain.guests],
        window,
        hypervisor=tools.hypervisor,
        journal=tools.journal,
        guard=tools.guard,
        deadline=Deadline.after(min(_LATE_S, tools.limits.resume_patience_s), tools.clock),
    )


def _resume_hints(domain: UpdateDomain, stranded: Collection[str], tools: Tools) -> dict[str, str]:
    """Return what a person does about each guest that we could not resume, by its state now."""
    until = Deadline.after(_LOOK_S, tools.clock)
    members = [Member(guest.name, guest.info.uuid) for guest in domain.guests]
    return {
        one.name: resume_hint(one, tools.hypervisor, until)
        for one in members
        if one.name in stranded
    }


def settle_update(window: PauseWindow, context: UpdateContext, tools: Tools) -> tuple[str, ...]:
    """Verify what was applied, roll back what was not; what went wrong, in words."""
    deadline = Deadline.after(tools.mend_timeout_s, tools.clock)
    problems = []
    if window.update_error is not None:
        problems.append(str(window.update_error))
    if window.rescued:
        problems.append("the guardian resumed guests, because this process was held up")
    try:
        if window.applied is not None:
            tools.update.verify(context, deadline)
        elif window.update_s is not None:
            tools.update.rollback(context, deadline)
    except HarnessError as error:
        problems.append(str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001  a bug costs its verdict only
        problems.append(str(InternalError(error)))
    return tuple(problems)


def keep_all(
    sessions: Mapping[str, GuestSession], after: Mapping[str, Aftermath], folder: RunFolder
) -> tuple[str, ...]:
    """Keep the raw material; what could not be kept, in words: no verdict is lost for that."""
    try:
        for name, session in sessions.items():
            keep_raw(session, after[name], folder)
    except InfrastructureError as error:
        return (str(error),)
    return ()


def left_alone(domain: UpdateDomain, sessions: Mapping[str, GuestSession]) -> DomainResult:
    """The result of a domain that was not touched, because one before it was not healthy."""
    record, guests = record_untouched(domain, sessions)
    return DomainResult(record, guests)
