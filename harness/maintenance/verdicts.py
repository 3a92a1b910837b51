"""What was seen of an update domain, judged and written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.checks import judge_all
from harness.checks.evidence import Evidence, HostChange, Swapped, Testimony
from harness.checks.frozen import monotonic_deficit
from harness.core.records import (
    ClockRecord,
    GuestRecord,
    Outcome,
    PartRecord,
    UpdateDomainRecord,
)
from harness.core.timebase import utc_now
from harness.guest import windows
from harness.guest.facts import GuestOs
from harness.host import timekeeping
from harness.host.clock_sync import synchronised
from harness.host.protocol import Hypervisor
from harness.maintenance.after_resume import Aftermath
from harness.maintenance.before_pause import Baseline
from harness.maintenance.events_told import LATE_S, between_events, events_told
from harness.maintenance.guest_clock import ClockOutcome, second_opinion_fields
from harness.maintenance.pause.outcome import GuestPause, PauseWindow
from harness.maintenance.plan import UpdateDomain
from harness.maintenance.session import GuestSession
from harness.results.folder import RunFolder
from harness.updates.protocol import Part


def evidence_of(
    session: GuestSession,
    before: Baseline,
    pause: GuestPause,
    after: Aftermath,
    budget_s: float,
    swapped: Swapped | None = None,
    events: tuple[str, ...] | None = None,
    change: HostChange | None = None,
) -> Evidence:
    """Everything that the checks of one guest judge by."""
    clock, log = after.clock, after.kernel_log
    return Evidence(
        budget_s=budget_s,
        tolerance_s=session.tolerance_s,
        lag_tolerance_s=session.settings.lag_tolerance_s,
        identity=session.identity,
        before=before.seen,
        after=after.seen,
        paused_at_least_s=pause.inner_s,
        paused_at_most_s=pause.outer_s,
        clock_before=before.clock,
        clock_after_resume=clock.after_resume,
        clock_at_end=clock.at_end,
        correction_problem=clock.problem,
        correction_doubt=clock.doubt,
        clock_target_s=clock.target_s,
        clock_target_uncertainty_s=clock.target_uncertainty_s,
        watch=clock.watch,
        watch_asked=session.settings.watch_s > 0,
        kernel_log_readable=before.kernel_log.marker is not None,
        new_kernel_lines=log.new_lines if log else None,
        stall_lines=log.stalls if log else None,
        testimony=_testimony(session, after),
        kernel_log_has_gap=log.has_gap if log else False,
        swapped=swapped,
        change=change,
        events=events,
        own_asked=session.probes.own_names if session.probes else (),
        may_catch_up=session.facts.os is GuestOs.WINDOWS
        and timekeeping.reinjects_ticks(session.info.timekeeping),
        limits=session.limits,
    )


def _testimony(session: GuestSession, after: Aftermath) -> Testimony:
    if after.testimony is not None or session.probes is None:
        return after.testimony or {}
    return session.probes.silence()


def record_guest(
    session: GuestSession,
    before: Baseline,
    window: PauseWindow,
    after: Aftermath,
    hypervisor: Hypervisor,
    *,
    budget_s: float,
    checks: Sequence[str],
    swapped: Swapped | None = None,
    resume_hint: str | None,
    since: str = "",
    change: HostChange | None = None,
) -> GuestRecord:
    """One guest's record, its checks judged.

    ``swapped`` is what is seen of a guest whose QEMU was to be replaced.
    ``change``: how the host's kernel was replaced.
    ``resume_hint``: we could not resume it, and what a person does about that, None if we could;
    ``since``: what has become of it after it ran, in words.
    """
    pause = window.guests[session.name]
    ran = pause.resume_returned_ns is not None
    told = events_told(session.info.uuid, pause, hypervisor, LATE_S if ran else 0.0)
    evidence = evidence_of(session, before, pause, after, budget_s, swapped, told, change)
    verdicts = judge_all(evidence, checks)
    problems = tuple(str(e) for e in (pause.pause_error, pause.resume_error) if e)
    if since:
        problems += (f"it ran when it was resumed, and {since}",)
    outcomes = [check.outcome for check in verdicts] + [Outcome.ERROR for _ in problems]
    return GuestRecord(
        name=session.name,
        uuid=session.info.uuid,
        outcome=Outcome.worst(outcomes),
        accelerator=session.info.accelerator,
        clocksource=session.facts.clocksource,
        pause_window_s=pause.outer_s,
        pause_inner_s=between_events(session.info.uuid, window.t0_ns, hypervisor),
        stale_clock_window_s=after.clock.stale_clock_window_s,
        clock=_clock_record(session, before, evidence, after.clock),
        checks=verdicts,
        facts=_facts(session) | _changes(swapped),
        identity=session.identity,
        still_paused=resume_hint is not None,
        resume_hint=resume_hint or "",
        problems=problems,
    )


def _clock_record(
    session: GuestSession, before: Baseline, evidence: Evidence, clock: ClockOutcome
) -> ClockRecord:
    deficit = monotonic_deficit(before.clock, clock.after_resume)
    return ClockRecord(
        method=clock.method,
        expected_lag_s=-evidence.pause_s[0] if evidence.pause_s else None,
        before=before.clock,
        after_resume=clock.after_resume,
        after_correction=clock.after_correction,
        monotonic_deficit_s=deficit[0] if deficit else None,
        target_s=clock.target_s,
        methods=session.settings.methods,
        attempts=clock.attempts,
        doubt=clock.doubt,
        host_synchronised=synchronised(),
        rtc_offset_s=clock.rtc_offset_s,
        rtc_expected_s=timekeeping.rtc_ahead_s(session.info.timekeeping, utc_now()),
        watch=clock.watch,
        **second_opinion_fields(clock.guest_agent, clock.at_end),
    )


def keep_raw(session: GuestSession, after: Aftermath, folder: RunFolder) -> None:
    """Samples and kernel lines, for a reader who doubts a verdict."""
    folder.write_guest(session.name, "clock-samples.json", list(session.sampler.raw))
    if after.kernel_log:
        lines = "\n".join(after.kernel_log.new_lines) + "\n"
        folder.write_guest(session.name, "kernel.log", lines)


def _facts(session: GuestSession) -> dict[str, str]:
    facts = session.facts
    unproven = {"unproven": windows.UNPROVEN} if facts.os is GuestOs.WINDOWS else {}
    return {
        "access": session.shell.way.access,
        **unproven,
        "address": session.address,
        "address_from": session.address_from,
        "kernel": facts.kernel,
        "interpreter": session.sampler.interpreter,
        "time_daemon": facts.daemon_told,
        "rtc_track": session.info.rtc_track,
        "timekeeping": timekeeping.shown(session.info.timekeeping),
    }


def _changes(swapped: Swapped | None) -> dict[str, str]:
    """What else is different about a guest whose QEMU was replaced."""
    told = "; ".join(swapped.changes) if swapped is not None else ""
    return {"qemu_changes": told} if told else {}


def record_domain(
    domain: UpdateDomain,
    window: PauseWindow,
    guests: Sequence[GuestRecord],
    problems: tuple[str, ...],
    budget_s: float,
    suspended_s: float = 0.0,
    parts: Sequence[Part] = (),
) -> UpdateDomainRecord:
    """Return one update domain's record; ``problems`` are those of the update.

    ``parts``: each update of the window, where there are several.

    The pause window of the domain is judged against the budget as each guest's own is. A host that
    was itself suspended for ``suspended_s`` leaves nothing to be judged: its guests stood still for
    longer than any clock that they or we go by.
    """
    if window.applied is None and not problems:
        problems = ("the update was not applied, because not every guest could be paused",)
    if suspended_s > 0:
        slept = (
            f"the host was suspended for {suspended_s:.3f} s (CLOCK_BOOTTIME went on, "
            "CLOCK_MONOTONIC did not), so the pause was longer than was measured (hint: "
            "systemd-inhibit --what=sleep keeps it awake)"
        )
        problems = (*problems, slept)
    outcomes = [guest.outcome for guest in guests] + [Outcome.ERROR for _ in problems]
    if window.duration_s > budget_s:
        outcomes.append(Outcome.FAIL)
        over = f"pause window {window.duration_s:.3f} s exceeds the budget of {budget_s:g} s"
        problems = (*problems, over)
    update_s = window.update_s
    return UpdateDomainRecord(
        name=domain.name,
        guests=tuple(guest.name for guest in guests),
        outcome=Outcome.worst(outcomes),
        pause_window_s=window.duration_s,
        update_s=update_s,
        # Held up as we were, our measure of the update is not one of the pause.
        overhead_s=None if window.rescued or update_s is None else window.duration_s - update_s,
        pausing_s=window.pausing_s,
        resuming_s=window.resuming_s,
        host_suspended_s=suspended_s,
        update_returncode=window.applied.returncode if window.applied else None,
        update_detail=window.applied.detail if window.applied else "",
        updates=tuple(_part(one) for one in parts),
        problems=problems,
    )


def _part(part: Part) -> PartRecord:
    return PartRecord(
        kind=part.kind,
        command=part.command,
        progress=part.progress.value,
        duration_s=part.duration_s,
        returncode=part.returncode,
        detail=part.detail,
    )


def record_untouched(
    domain: UpdateDomain, sessions: Mapping[str, GuestSession]
) -> tuple[UpdateDomainRecord, tuple[GuestRecord, ...]]:
    """The records of a domain that was left alone, because one before it was not healthy."""
    guests = tuple(
        GuestRecord(
            name=guest.name,
            uuid=guest.info.uuid,
            outcome=Outcome.SKIP,
            accelerator=guest.info.accelerator,
            clocksource=sessions[guest.name].facts.clocksource,
            facts=_facts(sessions[guest.name]),
            identity=sessions[guest.name].identity,
        )
        for guest in domain.guests
    )
    record = UpdateDomainRecord(
        name=domain.name,
        guests=tuple(guest.name for guest in guests),
        outcome=Outcome.SKIP,
        problems=("left alone: an update domain before it was not healthy",),
    )
    return record, guests
