"""The maintenance of one update domain: baseline → pause window → mend → look again → judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from harness.checks import judge_all
from harness.checks.evidence import Evidence, Observed
from harness.checks.frozen import monotonic_deficit
from harness.config import Config
from harness.custody import Member
from harness.errors import HarnessError, TakenOver
from harness.fanout import errors, fan_out
from harness.guard import Guard
from harness.guest.health import KernelLog, look_again, mark
from harness.host.protocol import EventKind, Hypervisor
from harness.interruption import Interruption
from harness.journal import Journal
from harness.mend import Mended, mend
from harness.plan import UpdateDomain
from harness.progress import Observer, Phase, Step
from harness.records import (
    ClockReading,
    ClockRecord,
    GuestRecord,
    Outcome,
    UpdateDomainRecord,
)
from harness.resume import still_paused
from harness.runfolder import RunFolder
from harness.session import GuestSession
from harness.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline
from harness.updates.protocol import HostUpdate, UpdateContext
from harness.window import PauseWindow, UpdateCalls, hold_window


@dataclass(frozen=True)
class Tools:
    """What every phase works with."""

    config: Config
    hypervisor: Hypervisor
    update: HostUpdate
    folder: RunFolder
    journal: Journal
    interruption: Interruption
    guard: Guard
    observer: Observer
    clock: Clock = SYSTEM_CLOCK


@dataclass(frozen=True)
class Baseline:
    """One guest before the pause."""

    clock: ClockReading
    seen: Observed
    kernel_log: KernelLog


@dataclass(frozen=True)
class DomainResult:
    """An update domain's record, its guests' records, and who is still paused."""

    record: UpdateDomainRecord
    guests: tuple[GuestRecord, ...]
    stranded: tuple[str, ...] = ()


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
    before_until = Deadline.after(tools.config.prepare_timeout_s, tools.clock)

    tell(Phase.PREPARING, "preparing the update, taking baselines")
    tools.update.prepare(context, before_until)
    baselines = take_baselines(mine, tools, before_until)
    tools.journal.note("update domain", name=domain.name)
    tell(Phase.PAUSED, f"paused; applying the update ({tools.update.kind})")
    window = _hold(domain, context, tools)

    tell(Phase.MENDING, f"resumed after {window.duration_s:.3f} s; mending clocks")
    after_until = Deadline.after(tools.config.mend_timeout_s, tools.clock)
    mended = mend_all(mine, window, tools, after_until)
    stranded = find_stranded(domain, window, tools.hypervisor, after_until)
    problems = settle_update(window, context, tools, after_until)
    seen = look_at_all(mine, baselines, tools, after_until)
    guests = tuple(
        _record_guest(
            mine[name], baselines[name], window, mended[name], seen[name], name in stranded, tools
        )
        for name in names
    )
    record = _record_domain(domain, window, guests, problems)
    tell(Phase.CHECKED, f"{record.outcome.value}")
    return DomainResult(record, guests, stranded)


def _tell(
    observer: Observer, domain: str, guests: tuple[str, ...], phase: Phase, text: str
) -> None:
    observer(Step(phase, text, domain, guests))


def take_baselines(
    sessions: Mapping[str, GuestSession], tools: Tools, deadline: Deadline
) -> dict[str, Baseline]:
    """Every guest's clock, kernel-log marker and identity before the pause; raises if one fails."""

    def look(session: GuestSession) -> Baseline:
        log = mark(session.shell, session.facts, deadline)
        seen = session.observe(session.facts.boot_id, tools.hypervisor, deadline)
        # Last, so that as little as possible lies between this reading and the pause.
        return Baseline(session.sampler.read(tools.config.clock.samples, deadline), seen, log)

    calls = {name: partial(look, session) for name, session in sessions.items()}
    answers = fan_out(calls, deadline, what="taking the baseline", clock=tools.clock)
    return {name: answer.get() for name, answer in answers.items()}


def _hold(domain: UpdateDomain, context: UpdateContext, tools: Tools) -> PauseWindow:
    return hold_window(
        [Member(guest.name, guest.info.uuid) for guest in domain.guests],
        UpdateCalls(
            partial(tools.update.apply, context), tools.update.abandon, context.mark("apply")
        ),
        hypervisor=tools.hypervisor,
        journal=tools.journal,
        interruption=tools.interruption,
        guard=tools.guard,
        budget_s=tools.config.budget_s,
        resume_reserve_s=tools.config.resume_reserve_s,
        clock=tools.clock,
    )


def mend_all(
    sessions: Mapping[str, GuestSession], window: PauseWindow, tools: Tools, deadline: Deadline
) -> dict[str, Mended]:
    """Mend every guest that runs again, in parallel."""

    def one(name: str, session: GuestSession) -> Mended:
        resumed_ns = window.guests[name].resume_returned_ns
        if resumed_ns is None:
            return Mended(None, problem="not resumed by this run, so its clock was left alone")
        return mend(session, tools.config, resumed_ns, deadline, clock=tools.clock)

    calls = {name: partial(one, name, session) for name, session in sessions.items()}
    answers = fan_out(calls, deadline, what="mending the clock", clock=tools.clock)
    late = errors(answers)
    mended = {
        name: Mended(None, problem=str(late[name])) if name in late else answer.get()
        for name, answer in answers.items()
    }
    tools.journal.note("mended", methods={name: m.method for name, m in mended.items()})
    return mended


def find_stranded(
    domain: UpdateDomain, window: PauseWindow, hypervisor: Hypervisor, deadline: Deadline
) -> tuple[str, ...]:
    """Guests of ours that are really still paused; a dead guest is not, nor is somebody else's."""
    unresumed = [
        Member(guest.name, guest.info.uuid)
        for guest in domain.guests
        if window.guests[guest.name].resume_error is not None
        and not isinstance(window.guests[guest.name].resume_error, TakenOver)
    ]
    return still_paused(unresumed, hypervisor, deadline)


def settle_update(
    window: PauseWindow, context: UpdateContext, tools: Tools, deadline: Deadline
) -> tuple[str, ...]:
    """Verify what was applied, roll back what was not; what went wrong, in words."""
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
    return tuple(problems)


def look_at_all(
    sessions: Mapping[str, GuestSession],
    baselines: Mapping[str, Baseline],
    tools: Tools,
    deadline: Deadline,
) -> dict[str, tuple[Observed, KernelLog | None]]:
    """Every guest's identity and new kernel lines after the pause; None where it fell silent."""

    def look(name: str, session: GuestSession) -> tuple[Observed, KernelLog | None]:
        boot_id, log = look_again(session.shell, baselines[name].kernel_log, deadline)
        return session.observe(boot_id, tools.hypervisor, deadline), log

    calls = {name: partial(look, name, session) for name, session in sessions.items()}
    answers = fan_out(calls, deadline, what="looking at the guest again", clock=tools.clock)
    silent = errors(answers)
    return {
        name: (Observed(), None) if name in silent else answer.get()
        for name, answer in answers.items()
    }


def _record_guest(
    session: GuestSession,
    baseline: Baseline,
    window: PauseWindow,
    mended: Mended,
    after: tuple[Observed, KernelLog | None],
    still_paused: bool,
    tools: Tools,
) -> GuestRecord:
    pause = window.guests[session.name]
    log = after[1]
    evidence = Evidence(
        budget_s=tools.config.budget_s,
        tolerance_s=session.tolerance_s,
        lag_tolerance_s=tools.config.clock.lag_tolerance_s,
        before=baseline.seen,
        after=after[0],
        paused_at_least_s=pause.inner_s,
        paused_at_most_s=pause.outer_s,
        clock_before=baseline.clock,
        clock_after_resume=mended.after_resume,
        clock_at_end=mended.at_end,
        correction_problem=mended.problem,
        kernel_log_readable=baseline.kernel_log.marker is not None,
        new_kernel_lines=log.new_lines if log else None,
        stall_lines=log.stalls if log else None,
    )
    checks = judge_all(evidence)
    problems = tuple(str(e) for e in (pause.pause_error, pause.resume_error) if e)
    outcomes = [check.outcome for check in checks] + [Outcome.ERROR for _ in problems]
    deficit = monotonic_deficit(baseline.clock, mended.after_resume)
    tools.folder.write_guest(session.name, "clock-samples.json", session.sampler.raw)
    if log:
        tools.folder.write_guest(session.name, "kernel.log", "\n".join(log.new_lines) + "\n")
    return GuestRecord(
        name=session.name,
        uuid=session.info.uuid,
        outcome=Outcome.worst(outcomes),
        accelerator=session.info.accelerator,
        clocksource=session.facts.clocksource,
        pause_window_s=pause.outer_s,
        pause_inner_s=_between_events(session.info.uuid, window, tools.hypervisor),
        stale_clock_window_s=mended.stale_clock_window_s,
        clock=ClockRecord(
            method=mended.method,
            expected_lag_s=-evidence.pause_s[0] if evidence.pause_s else None,
            before=baseline.clock,
            after_resume=mended.after_resume,
            after_correction=mended.after_correction,
            monotonic_deficit_s=deficit[0] if deficit else None,
        ),
        checks=checks,
        facts=_facts(session),
        still_paused=still_paused,
        problems=problems,
    )


def _facts(session: GuestSession) -> dict[str, str]:
    facts = session.facts
    return {
        "address": session.address,
        "kernel": facts.kernel,
        "interpreter": session.sampler.interpreter,
        "time_daemon": facts.time_daemon or "none",
        "rtc_track": session.info.rtc_track,
    }


def _between_events(uuid: str, window: PauseWindow, hypervisor: Hypervisor) -> float | None:
    """libvirt's SUSPENDED → RESUMED, as they reached us: the inner bound of the pause."""
    stamps = {
        event.kind: event.at_ns for event in hypervisor.events(uuid) if event.at_ns >= window.t0_ns
    }
    suspended, resumed = stamps.get(EventKind.SUSPENDED), stamps.get(EventKind.RESUMED)
    if suspended is None or resumed is None:
        return None
    return (resumed - suspended) / NS_PER_S


def _record_domain(
    domain: UpdateDomain,
    window: PauseWindow,
    guests: Sequence[GuestRecord],
    problems: tuple[str, ...],
) -> UpdateDomainRecord:
    outcomes = [guest.outcome for guest in guests] + [Outcome.ERROR for _ in problems]
    if window.applied is None and not problems:
        outcomes.append(Outcome.ERROR)
        problems = ("the update was not applied, because not every guest could be paused",)
    update_s = window.update_s
    return UpdateDomainRecord(
        name=domain.name,
        guests=tuple(guest.name for guest in guests),
        outcome=Outcome.worst(outcomes),
        pause_window_s=window.duration_s,
        update_s=update_s,
        # Held up as we were, our measure of the update is not one of the pause.
        overhead_s=None if window.rescued or update_s is None else window.duration_s - update_s,
        update_returncode=window.applied.returncode if window.applied else None,
        problems=problems,
    )


def left_alone(domain: UpdateDomain, sessions: Mapping[str, GuestSession]) -> DomainResult:
    """The record of a domain that was not touched, because one before it was not healthy."""
    guests = tuple(
        GuestRecord(
            name=guest.name,
            uuid=guest.info.uuid,
            outcome=Outcome.SKIP,
            accelerator=guest.info.accelerator,
            clocksource=sessions[guest.name].facts.clocksource,
            facts=_facts(sessions[guest.name]),
        )
        for guest in domain.guests
    )
    record = UpdateDomainRecord(
        name=domain.name,
        guests=tuple(guest.name for guest in guests),
        outcome=Outcome.SKIP,
        problems=("left alone: an update domain before it was not healthy",),
    )
    return DomainResult(record, guests)
