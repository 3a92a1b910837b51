"""The maintenance from end to end: walks the plan, one update domain at a time.

plan → run folder and journal → log in everywhere → for each update domain: maintain, soak →
record. After the first domain that is not healthy the others are left alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.core.closing import result_of
from harness.core.errors import GuestStranded, HarnessError, InfrastructureError, InternalError
from harness.core.identity import who_am_i
from harness.core.records import RunRecord
from harness.core.settings import ClockSection, Config
from harness.core.signals import Interruption
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline, utc_now
from harness.guest.protocol import Connector
from harness.host.lock import host_lock
from harness.host.protocol import Hypervisor
from harness.maintenance.admission import open_all, warnings_about
from harness.maintenance.domain import Tools, left_alone, maintain
from harness.maintenance.guest_access import Login
from harness.maintenance.notice import Notice, Unannounced
from harness.maintenance.pause.guard import Guard, GuardianProcess
from harness.maintenance.pause.stranded import still_paused
from harness.maintenance.pause.swap import Swap
from harness.maintenance.pause.terms import Limits
from harness.maintenance.plan import Plan, UpdateDomain
from harness.maintenance.progress import Observer, Phase, Step, silent, undisturbed
from harness.maintenance.run_record import RunHead, RunResult, record_run
from harness.maintenance.session import GuestSession
from harness.results.folder import RunFolder, new_run_id
from harness.results.journal import Journal, entries, fold
from harness.results.report import junit
from harness.updates.protocol import HostUpdate, LeavesThisKernel, UpdateContext

#: Starts a guardian for (URI, run folder, clock).
Guarding = Callable[[str, Path, Clock], AbstractContextManager[Guard]]
#: Opens every guest of the plan; what is to be closed again goes onto the stack.
_LogIn = Callable[[Tools, ExitStack], Mapping[str, GuestSession]]

#: So many guests are named in the lock; a name may be long, and the lock is read as one piece.
_NAMED = 5
_LEFT_TO_READ = (
    "when this terminal has ended and the host is up again, the result is in: "
    "harness report {run_id}"
)
#: For asking who is paused after a bug.
_LOOK_S = 20.0


@dataclass(frozen=True)
class Part:
    """This host's part of a rollout, as one of its runs knows it."""

    rollout: str
    begin: Callable[[str, int], object]
    """Called with the run's id and ``left`` before the run begins; raises HarnessError."""
    left: int = 0
    """So many windows are to follow this run's."""
    around: Callable[[Notice], Notice] = lambda notice: notice
    """What the run's notice goes through: those who follow the rollout see its domains."""


@dataclass(frozen=True)
class Finished:
    """A run that is over: its record, its folder, and the error that ended it, if one did."""

    record: RunRecord
    folder: RunFolder
    error: HarnessError | None = None


def run(
    config: Config,
    plan: Plan,
    update: HostUpdate,
    hypervisor: Hypervisor,
    connector: Connector,
    *,
    state_dir: Path,
    observer: Observer = silent,
    notice: Notice | None = None,
    label: str = "run",
    follows: str | None = None,
    part: Part | None = None,
    clock: Clock = SYSTEM_CLOCK,
    guardian: Guarding = GuardianProcess,
) -> Finished:
    """Carry out ``plan``; the record is written whatever happens.

    ``config`` is kept in the run folder for a recovery; its parts are handed
    out here. ``notice`` tells the guests beforehand; None: no notice. ``label``: how the run
    came about, for the history; ``follows``: the run of the window before, of the same
    configuration. ``part``: of which rollout it is a part; None: of none. ``guardian`` starts the
    second process.

    Raises HostBusy if another process holds this host, InfrastructureError if the run folder, the
    journal or the guardian cannot be made; any other HarnessError ends up in the result.
    """
    run_id = new_run_id(clock)
    if part is not None:
        part.begin(run_id, part.left)
    head = RunHead(
        run_id,
        label,
        utc_now(clock),
        hypervisor.host(Deadline.after(config.prepare_timeout_s, clock)).model_copy(
            update={"accelerator": _accelerators(plan)}
        ),
        plan,
        update,
        config.budget_s,
        config.clock.tolerance_s,
        follows,
        part.rollout if part is not None else None,
    )
    logins = [
        Login(guest.info, guest.section, config.ssh, hypervisor, connector, config.access)
        for guest in plan.guests
    ]

    def carried_out(stack: ExitStack) -> Finished:
        purpose = _purpose(head)
        stack.enter_context(host_lock(hypervisor.uri, purpose, run_id, state_dir=state_dir))
        folder = RunFolder.create(state_dir, run_id)
        interruption = stack.enter_context(Interruption())
        journal = stack.enter_context(Journal(folder.path, run_id, clock))
        guard = stack.enter_context(guardian(hypervisor.uri, folder.path, clock))
        tools = Tools(
            hypervisor,
            update,
            folder,
            journal,
            interruption,
            guard,
            undisturbed(observer),
            notice or Unannounced(config.availability_set, clock),
            Limits(config.budget_s, config.resume_reserve_s, config.resume_patience_s, clock),
            config.checks,
            prepare_timeout_s=config.prepare_timeout_s,
            mend_timeout_s=config.mend_timeout_s,
            watch_s=config.clock.watch_s,
        )
        folder.write_config(config)
        _begin(head, tools)
        if isinstance(update, LeavesThisKernel):  # later, the run's process is gone
            tools.observer(Step(Phase.NOTE, _LEFT_TO_READ.format(run_id=run_id)))
        log_in = partial(_log_in_everywhere, logins, config.clock)
        result = _carry_out(head, tools, log_in, soak_s=config.soak_s, state_dir=state_dir)
        result, record = _finish(head, result, tools)
        _end(result, record, journal)
        return Finished(record, folder, result.loudest)

    return result_of(carried_out)


def _purpose(head: RunHead) -> str:
    """What a run says of itself to other runs, which its lock keeps out."""
    names = [guest.name for guest in head.plan.guests]
    more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
    return f"a maintenance ({head.update.kind}) of {', '.join(names[:_NAMED])}{more}"


def _accelerators(plan: Plan) -> str:
    return "+".join(sorted({guest.info.accelerator for guest in plan.guests}))


def _begin(head: RunHead, tools: Tools) -> None:
    """From now on this folder shows what the run was doing, and how to finish it."""
    _keep(head, RunResult(), tools)
    me = who_am_i()
    tools.journal.intend(
        entries.RunStarted(
            user=me["user"],
            start_ticks=me["start_ticks"],
            boot_id=me["boot_id"],
            release=os.uname().release,
            uri=tools.hypervisor.uri,
            update=head.update.kind,
            guests=tuple(guest.name for guest in head.plan.guests),
        )
    )


def _carry_out(
    head: RunHead, tools: Tools, log_in: _LogIn, *, soak_s: float, state_dir: Path
) -> RunResult:
    """Maintain one update domain after the other; return what came of them, and of what ended it.

    No Exception comes out of here, and no SystemExit: a bug is recorded all the same.
    """
    result = RunResult(planned=tuple(guest.name for guest in head.plan.guests))
    try:
        with ExitStack() as stack:
            sessions = log_in(tools, stack)
            result = replace(result, warnings=warnings_about(sessions.values()))
            stack.callback(tools.notice.close)
            tools.notice.begin(head.plan, tools.folder.path, tools.journal)
            for number, domain in enumerate(head.plan.domains):
                if not result.healthy:
                    tools.observer(_alone(domain))
                    result = result.then(left_alone(domain, sessions))
                    continue
                if number:
                    _soak(soak_s, tools)
                tools.interruption.check()
                context = _context(domain, tools, state_dir)
                try:
                    result = result.then(maintain(domain, sessions, context, tools))
                finally:
                    tools.notice.over(domain)
                _keep(head, result, tools)  # a killed run leaves what it knew
    except HarnessError as error:
        return replace(result, error=error)
    except (Exception, SystemExit) as error:  # noqa: BLE001
        return replace(result, error=InternalError(error), stranded=_held_and_paused(tools))
    return result


def _log_in_everywhere(
    logins: Sequence[Login], settings: ClockSection, tools: Tools, stack: ExitStack
) -> Mapping[str, GuestSession]:
    names = tuple(login.info.name for login in logins)
    tools.observer(Step(Phase.PREPARING, "logging in", guests=names))
    deadline = Deadline.after(tools.prepare_timeout_s, tools.clock)
    sessions = open_all(logins, settings, deadline, stack)
    tools.observer(Step(Phase.READY, "logged in", guests=names))
    return sessions


def _soak(soak_s: float, tools: Tools) -> None:
    if soak_s:
        tools.observer(Step(Phase.SOAKING, f"soaking {soak_s:g} s"))
        tools.interruption.pause(soak_s)


def _context(domain: UpdateDomain, tools: Tools, state_dir: Path) -> UpdateContext:
    return UpdateContext(
        run_id=tools.folder.run_id,
        run_dir=tools.folder.path,
        update_domain=domain.name,
        guests=tuple(guest.name for guest in domain.guests),
        state_dir=state_dir,
        budget_s=tools.limits.budget_s,
        swap=Swap(tools.hypervisor, tools.journal),
    )


def _alone(domain: UpdateDomain) -> Step:
    names = tuple(guest.name for guest in domain.guests)
    return Step(Phase.LEFT_ALONE, "left alone", domain.name, names)


def _held_and_paused(tools: Tools) -> tuple[str, ...]:
    """The guests that the journal says we hold and that are paused, for all that libvirt says."""
    look_until = Deadline.after(_LOOK_S, tools.clock)
    try:
        members = fold(tools.journal.read()).held
    except HarnessError:
        return ()
    return still_paused(
        members, tools.hypervisor, look_until, if_silent=True, journal=tools.journal
    )


def _keep(head: RunHead, result: RunResult, tools: Tools) -> None:
    """Write what is known by now of a run that goes on."""
    so_far = replace(result, interrupted_by=tools.interruption.signal_name)
    _write(head, record_run(head, so_far, tools.notice, None), tools.folder)


def _finish(head: RunHead, result: RunResult, tools: Tools) -> tuple[RunResult, RunRecord]:
    """The final record, on disk if that is possible; what is known is reported in any case."""
    result = replace(result, interrupted_by=tools.interruption.signal_name)
    record = record_run(head, result, tools.notice, utc_now(tools.clock))
    try:
        _write(head, record, tools.folder)
    except InfrastructureError as error:
        result = replace(result, error=result.error or error)
        record = record_run(head, result, tools.notice, utc_now(tools.clock))
    return result, record


def _write(head: RunHead, record: RunRecord, folder: RunFolder) -> None:
    """Put the record where we, and a CI server, look for it."""
    folder.write_record(record)
    try:
        junit.keep(folder, record, [guest.name for guest in head.plan.guests])
    except HarnessError as error:  # a report that fails changes nothing
        logging.getLogger(__name__).warning("%s", error)


def _end(result: RunResult, record: RunRecord, journal: Journal) -> None:
    """Journal that the run is over.

    One that leaves guests paused, or clocks as a bug left them, has not ended for
    `harness recover`.
    """
    if isinstance(result.loudest, GuestStranded):
        journal.note(entries.RunStranded(record.outcome.value, record.exit_code))
    elif not isinstance(result.error, InternalError):
        journal.note(entries.RunFinished(record.outcome.value, record.exit_code))
