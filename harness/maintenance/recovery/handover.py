"""A run whose guests were handed over to another kernel: taken over, judged, its record finished.

The run died with its kernel, by design. A unit of the new system, or a person, finishes it by
``harness recover``, and what that writes is a verdict: it has all that a run has, but for the run's
connections.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness.checks.evidence import HostChange
from harness.core.errors import HarnessError, UpdateFailed
from harness.core.identity import boot_id
from harness.core.records import EXIT_CODES, GuestRecord, Outcome, RunRecord, UpdateDomainRecord
from harness.core.timebase import NS_PER_S, Clock, Deadline, boot_ahead_ns, utc_now
from harness.host.clock_sync import synchronised
from harness.host.kernel import kexec, modules, networks
from harness.host.region.handover import HANDOVER
from harness.maintenance.admission import Claims
from harness.maintenance.after_resume import correct_and_observe
from harness.maintenance.baselines_kept import Boots, read_baseline
from harness.maintenance.before_pause import Baseline
from harness.maintenance.pause.outcome import GuestPause, PauseWindow
from harness.maintenance.plan import UpdateDomain
from harness.maintenance.recovery.clock import LogIn
from harness.maintenance.recovery.record import Action, GuestRecovery, RunRecovery, guest_record
from harness.maintenance.session import GuestSession
from harness.maintenance.swapped import look_at_swapped
from harness.maintenance.thaw import arrival
from harness.maintenance.verdicts import record_domain, record_guest
from harness.results.journal import History, Journal, Line, Reading, entries, fold
from harness.updates.kernel import completion, launcher
from harness.updates.kernel.plan import read
from harness.updates.protocol import Applied

#: For looking at each guest's QEMU once it is judged; nothing else may use it up.
_LOOK_S = 20.0
_RUNNING = (Action.RESUMED, Action.RUNS)
#: Where Debian, and most others, have kernels by their releases.
_BOOT = Path("/boot")


def take_over(history: History, journal: Journal, deadline: Deadline) -> History:
    """Have this boot take over what was handed over, where none has; return the fold after that.

    Raises InfrastructureError where the plan or the region cannot be read: guests may wait there.
    """
    if not arrival.is_awaited(history):
        return history
    plan = read(HANDOVER)
    if plan.run_id != journal.run_id:
        raise UpdateFailed(f"{HANDOVER} is of run {plan.run_id}, not of {journal.run_id}")
    modules.load((*arrival.MODULES, *plan.modules))
    arrival.mount_region(plan, deadline)
    networks.start(plan.uri, plan.networks)
    # A time daemon knows better than the counter, if one runs by now.
    clock_set = None if synchronised() else arrival.set_clock(history)
    return arrival.arrive(plan, journal, "recover", clock_set)


def was_handed_over(history: History) -> bool:
    """Return True if another boot than the run's holds its guests."""
    return history.left is not None and history.arrived is not None


@dataclass(frozen=True)
class Verdict:
    """What is judged of one run by this boot of the host."""

    record: RunRecord
    guests: tuple[GuestRecovery, ...]


def judge(
    found: RunRecovery,
    record: RunRecord,
    checks: tuple[str, ...],
    journal: Journal,
    log_in: LogIn,
    deadline: Deadline,
) -> Verdict:
    """Log in to every guest that runs, correct its clock, and judge as the run would have.

    Never raises a HarnessError for a guest: the record says of one that cannot be logged in to why.
    """
    reading = journal.read()
    history, boots = fold(reading), Boots.of(reading)
    with ExitStack() as stack:
        opened = _open(found, log_in, boots, stack, deadline)
        sessions = {name: one for name, (one, _) in opened.sessions.items()}
        baselines = {name: one for name, (_, one) in opened.sessions.items()}
        window = _window(reading, history, boots, found, deadline.clock)
        after = (
            correct_and_observe(sessions, baselines, window.guests, journal, deadline)
            if sessions
            else {}
        )
        judged: dict[str, GuestRecord] = {}
        until = Deadline.after(_LOOK_S * len(found.guests), deadline.clock)
        hypervisors = [one.login.hypervisor for one in sessions.values()]  # all of this host
        swapped = look_at_swapped(journal, hypervisors[0], until, {}) if hypervisors else {}
        for name, session in sessions.items():
            judged[name] = record_guest(
                session,
                baselines[name],
                window,
                after[name],
                session.login.hypervisor,
                budget_s=record.budget_s,
                checks=checks,
                swapped=swapped.get(name),
                resume_hint=None,
                change=_change(history, boots),
            )
    records = tuple(
        judged.get(one.member.name) or guest_record(_with_problem(one, opened), history, True)
        for one in found.guests
    )
    told = tuple(
        replace(one, clock=after[one.member.name].clock, clock_verdict=Outcome.PASS)
        if one.member.name in judged
        else one
        for one in found.guests
    )
    domain = UpdateDomain(history.domain or "unknown", ())
    judged_domain = record_domain(domain, window, records, (), record.budget_s)
    finished = _finished(record, records, judged_domain, found, deadline.clock)
    if finished.outcome is not Outcome.PASS and history.started is not None:
        back = way_back(history.started.release, os.uname().release)
        finished = finished.model_copy(update={"warnings": (*finished.warnings, *back)})
    return Verdict(finished, told)


@dataclass(frozen=True)
class _Opened:
    sessions: Mapping[str, tuple[GuestSession, Baseline]]
    failed: Mapping[str, str]


def _open(
    found: RunRecovery, log_in: LogIn, boots: Boots | None, stack: ExitStack, deadline: Deadline
) -> _Opened:
    sessions: dict[str, tuple[GuestSession, Baseline]] = {}
    failed: dict[str, str] = {}
    claims = Claims()
    for guest in found.guests:
        name = guest.member.name
        if guest.action not in _RUNNING:
            continue
        try:
            baseline = read_baseline(found.folder, name, boots)
            session = log_in(guest.member.uuid, deadline)
            stack.callback(session.close)
            claims.claim(session.found)
            sessions[name] = (session, baseline)
        except HarnessError as error:
            failed[name] = str(error)
    for name, refusal in claims.refused.items():  # the first of two was let through
        sessions.pop(name, None)
        failed[name] = str(refusal)
    return _Opened(sessions, failed)


def _with_problem(guest: GuestRecovery, opened: _Opened) -> GuestRecovery:
    return replace(guest, problem=opened.failed.get(guest.member.name))


def _window(
    reading: Reading,
    history: History,
    boots: Boots | None,
    found: RunRecovery,
    clock: Clock,
) -> PauseWindow:
    """The pause in the time of this boot's CLOCK_MONOTONIC, which it may precede."""
    behind_ns = boot_ahead_ns(clock)
    guests = {
        one.member.name: _pause(reading.lines, one.member.uuid, boots, behind_ns)
        for one in found.guests
    }
    ends = [one.resume_returned_ns for one in guests.values() if one.resume_returned_ns is not None]
    begins = [one.pause_began_ns for one in guests.values()]
    t0_ns, t1_ns = min(begins, default=0), max(ends, default=0)
    change = _change(history, boots)
    detail = f"{change.release_before} → {change.release_now}"
    return PauseWindow(
        t0_ns=t0_ns,
        t1_ns=max(t0_ns, t1_ns),
        guests=guests,
        update_s=(t1_ns - t0_ns) / NS_PER_S if guests else None,
        applied=Applied(0, detail=detail),
    )


def _pause(lines: tuple[Line, ...], uuid: str, boots: Boots | None, behind_ns: int) -> GuestPause:
    """By the last line of each kind; the uncertainty makes it longer outside, shorter inside."""
    about = {type(line.entry): line for line in lines if getattr(line.entry, "uuid", None) == uuid}
    paused, consumed = about.get(entries.Paused), about.get(entries.Consumed)
    resumed = about.get(entries.Resumed)
    if paused is None or boots is None or not isinstance(paused.entry, entries.Paused):
        return GuestPause(0, 0)
    began_ns = boots.now_ns(paused.entry.began_ns or paused.boottime_ns)
    return GuestPause(
        began_ns - boots.uncertainty_ns - behind_ns,
        boots.now_ns(paused.boottime_ns) + boots.uncertainty_ns - behind_ns,
        consumed.boottime_ns - behind_ns if consumed is not None else None,
        resumed.boottime_ns - behind_ns if resumed is not None else None,
    )


def _change(history: History, boots: Boots | None) -> HostChange:
    left, arrived, started = history.left, history.arrived, history.started
    known_ns = boots.uncertainty_ns if boots is not None else None
    return HostChange(
        release_before=started.release if started is not None else "",
        release_wanted=left.release if left is not None else "",
        release_now=os.uname().release,
        boot_before=started.boot_id if started is not None else "",
        boot_now=arrived.boot_id if arrived is not None else "",
        clock_moved_s=_seconds(arrived.moved_ns if arrived is not None else None),
        clock_known_s=_seconds(known_ns),
    )


def _seconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / NS_PER_S


def way_back(before: str, now: str, boot: Path = _BOOT) -> tuple[str, ...]:
    """Return in words how guests go back to the kernel of before, where that is another one.

    It is a person's to decide, and never done by a verdict; see docs/adr/0047-no-way-back.md.
    """
    kernel = boot / f"vmlinuz-{before}"
    if before in ("", now) or not kernel.is_file():
        return ()
    return (
        f"this host stays in {now}; guests that were started under {before} can go back there: "
        f'harness run with update.kernel = "{kernel}"',
    )


def _finished(
    record: RunRecord,
    guests: tuple[GuestRecord, ...],
    domain: UpdateDomainRecord,
    found: RunRecovery,
    clock: Clock,
) -> RunRecord:
    outcome = Outcome.worst([domain.outcome, *(one.outcome for one in guests)])
    exit_code = 4 if found.stranded else EXIT_CODES[outcome]
    update = record.update.model_copy(
        update={"returncode": domain.update_returncode, "duration_s": domain.update_s}
    )
    return record.model_copy(
        update={
            "finished_at": utc_now(clock),
            "outcome": outcome,
            "exit_code": exit_code,
            "guests": guests,
            "update_domains": (domain,),
            "update": update,
            "updates": (update,),
            "problems": (),
        }
    )


def forget_of(run_id: str) -> None:
    """No guest of a run waits in the region any more; another run's do, perhaps. Never raises."""
    if HANDOVER.exists():
        with suppress(HarnessError):
            plan = read(HANDOVER)
            if plan.run_id == run_id:
                if plan.boot_id == boot_id() and kexec.is_loaded():
                    kexec.unload()  # it was not started, and its init= is taken away
                launcher.forget(HANDOVER)
                completion.forget()
