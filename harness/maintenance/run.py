"""The maintenance from end to end: walks the plan, one update domain at a time.

plan → run folder and journal → log in everywhere → for each update domain: maintain, soak →
record. After the first domain that is not healthy the others are left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from harness import __version__
from harness.core.errors import (
    GuestStranded,
    HarnessError,
    InfrastructureError,
    InternalError,
    Interrupted,
)
from harness.core.fanout import errors, fan_out
from harness.core.identity import who_am_i
from harness.core.records import (
    EXIT_CODES,
    HostRecord,
    Outcome,
    RunRecord,
    UpdateDomainRecord,
    UpdateRecord,
)
from harness.core.settings import Config
from harness.core.signals import Interruption
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline, utc_now
from harness.guest.protocol import Connector
from harness.host.clock_sync import synchronised
from harness.host.lock import host_lock
from harness.host.protocol import Hypervisor
from harness.maintenance.domain import DomainResult, Tools, left_alone, maintain
from harness.maintenance.notice import Notice, Unannounced
from harness.maintenance.pause.guard import Guard, Guardian
from harness.maintenance.pause.resume import still_paused
from harness.maintenance.plan import Plan, UpdateDomain
from harness.maintenance.progress import Observer, Phase, Step, silent, undisturbed
from harness.maintenance.session import GuestSession, Login
from harness.results.folder import RunFolder, new_run_id
from harness.results.journal import Journal, entries, fold
from harness.results.report import junit
from harness.updates.protocol import HostUpdate, UpdateContext

#: Starts a guardian for (URI, run folder, clock).
Guarding = Callable[[str, Path, Clock], AbstractContextManager[Guard]]


#: For asking who is paused after a bug of ours.
_LOOK_S = 20.0


@dataclass(frozen=True)
class Finished:
    """A run that is over: its record, its folder, and the error that ended it, if one did."""

    record: RunRecord
    folder: RunFolder
    error: HarnessError | None = None


@dataclass
class _Story:
    """What the record will say; grows as the run goes on."""

    started_at: datetime
    host: HostRecord
    plan: Plan
    label: str
    results: list[DomainResult] = field(default_factory=list)
    error: HarnessError | None = None
    stranded: tuple[str, ...] = ()
    """Guests that are paused though their update domain has no result."""


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
    clock: Clock = SYSTEM_CLOCK,
    guardian: Guarding = Guardian,
) -> Finished:
    """Carry out ``plan``; the record is written whatever happens.

    ``notice`` tells the guests beforehand; None: nobody is told. ``label``: how the run came
    about, for the history. ``guardian`` starts the second process.

    Raises HostBusy if somebody else holds this host, InfrastructureError if the run folder, the
    journal or the guardian cannot be made; any other HarnessError ends up in the result.
    """
    host = hypervisor.host(Deadline.after(config.prepare_timeout_s, clock))
    host = host.model_copy(update={"accelerator": _accelerators(plan)})
    story = _Story(utc_now(clock), host, plan, label)
    run_id = new_run_id(clock)
    with ExitStack() as stack:
        stack.enter_context(host_lock(hypervisor.uri, "a maintenance", run_id))
        folder = RunFolder.create(state_dir, run_id)
        interruption = stack.enter_context(Interruption())
        journal = stack.enter_context(Journal(folder.path, run_id, clock))
        guard = stack.enter_context(guardian(hypervisor.uri, folder.path, clock))
        tools = Tools(
            config,
            hypervisor,
            connector,
            update,
            folder,
            journal,
            interruption,
            guard,
            undisturbed(observer),
            clock,
            notice or Unannounced(),
        )
        _begin(story, tools)
        try:
            _carry_out(story, tools, state_dir)
        except HarnessError as error:
            story.error = error
        except (Exception, SystemExit) as error:  # noqa: BLE001  a bug; it is recorded all the same
            story.error = InternalError(error)
            story.stranded = _held_and_paused(tools)
        record = _finish(story, tools)
        loudest = _loudest(story, interruption)
        # One that leaves guests paused, or clocks as a bug left them, has not ended for
        # `harness recover`.
        if isinstance(loudest, GuestStranded):
            journal.note(entries.RunStranded(record.outcome.value, record.exit_code))
        elif not isinstance(story.error, InternalError):
            journal.note(entries.RunFinished(record.outcome.value, record.exit_code))
    return Finished(record, folder, loudest)


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


def _finish(story: _Story, tools: Tools) -> RunRecord:
    """The final record, on disk if that is possible; what is known is told in any case."""
    try:
        return _keep(story, tools)
    except InfrastructureError as error:
        story.error = story.error or error
        return _record(story, tools)


def _begin(story: _Story, tools: Tools) -> None:
    """From now on, whoever finds this folder knows what was going on, and how to go on."""
    tools.folder.write_config(tools.config)
    _keep(story, tools, finished=False)
    me = who_am_i()
    tools.journal.intend(
        entries.RunStarted(
            user=me["user"],
            start_ticks=me["start_ticks"],
            boot_id=me["boot_id"],
            uri=tools.hypervisor.uri,
            update=tools.update.kind,
            guests=tuple(guest.name for guest in story.plan.guests),
        )
    )


def _carry_out(story: _Story, tools: Tools, state_dir: Path) -> None:
    with ExitStack() as stack:
        sessions = _log_in_everywhere(story.plan, tools, stack)
        stack.callback(tools.notice.close)
        tools.notice.begin(story.plan, tools.folder.path, tools.journal)
        for position, domain in enumerate(story.plan.domains):
            if _unhealthy(story.results):
                tools.observer(_alone(domain))
                story.results.append(left_alone(domain, sessions))
                continue
            tools.interruption.check()
            context = _context(domain, tools, state_dir)
            try:
                story.results.append(maintain(domain, sessions, context, tools))
            finally:
                tools.notice.over(domain)
            # A killed run leaves what it knew.
            _keep(story, tools, finished=False)
            last = position == len(story.plan.domains) - 1
            if tools.config.soak_s and not last and not _unhealthy(story.results):
                tools.observer(Step(Phase.SOAKING, f"soaking {tools.config.soak_s:g} s"))
                tools.interruption.pause(tools.config.soak_s)


def _log_in_everywhere(plan: Plan, tools: Tools, stack: ExitStack) -> dict[str, GuestSession]:
    """Open every guest of the plan at once; raises the first error, having closed the others."""
    names = tuple(guest.name for guest in plan.guests)
    tools.observer(Step(Phase.PREPARING, "logging in", guests=names))
    deadline = Deadline.after(tools.config.prepare_timeout_s, tools.clock)
    logins = (
        Login(guest.info, guest.section, tools.config.ssh, tools.hypervisor, tools.connector)
        for guest in plan.guests
    )
    settings = tools.config.clock
    calls = {one.info.name: partial(GuestSession.open, one, settings, deadline) for one in logins}
    answers = fan_out(calls, deadline, what="logging in")
    for answer in answers.values():
        if answer.value is not None:
            stack.callback(answer.value.close)
    for error in errors(answers).values():
        raise error
    tools.observer(Step(Phase.READY, "logged in", guests=names))
    return {name: answer.get() for name, answer in answers.items()}


def _context(domain: UpdateDomain, tools: Tools, state_dir: Path) -> UpdateContext:
    return UpdateContext(
        run_id=tools.folder.run_id,
        run_dir=tools.folder.path,
        update_domain=domain.name,
        guests=tuple(guest.name for guest in domain.guests),
        state_dir=state_dir,
        budget_s=tools.config.budget_s,
    )


def _unhealthy(results: Sequence[DomainResult]) -> bool:
    return any(result.record.outcome is not Outcome.PASS for result in results)


def _alone(domain: UpdateDomain) -> Step:
    names = tuple(guest.name for guest in domain.guests)
    return Step(Phase.LEFT_ALONE, "left alone", domain.name, names)


def _accelerators(plan: Plan) -> str:
    return "+".join(sorted({guest.info.accelerator for guest in plan.guests}))


def _loudest(story: _Story, interruption: Interruption) -> HarnessError | None:
    stranded = [name for result in story.results for name in result.stranded]
    stranded += story.stranded
    if stranded:
        return GuestStranded(stranded)
    if interruption.signal_name is not None:
        return Interrupted(interruption.signal_name)
    return story.error


def _with_notice(record: UpdateDomainRecord, notice: Notice) -> UpdateDomainRecord:
    return record.model_copy(update={"notice": notice.record(record.name)})


def _doubts_about_the_host() -> tuple[str, ...]:
    if synchronised() is not False:
        return ()
    return ("the host's own clock is not synchronised; guests were measured against it as it is",)


def _keep(story: _Story, tools: Tools, *, finished: bool = True) -> RunRecord:
    """Write what is known by now, for us and for a CI server."""
    record = _record(story, tools, finished=finished)
    tools.folder.write_record(record)
    try:
        junit.keep(tools.folder, record, [guest.name for guest in story.plan.guests])
    except HarnessError as error:  # a report that fails changes nothing
        logging.getLogger(__name__).warning("%s", error)
    return record


def _record(story: _Story, tools: Tools, *, finished: bool = True) -> RunRecord:
    error = _loudest(story, tools.interruption)
    problems = [str(error)] if error else []
    if not finished:
        problems.append("this run has not finished; if its process is gone: harness recover")
    outcomes = [result.record.outcome for result in story.results]
    outcome = Outcome.worst([*outcomes, Outcome.ERROR] if error else outcomes)
    domains = tuple(_with_notice(result.record, tools.notice) for result in story.results)
    durations = [domain.update_s for domain in domains if domain.update_s is not None]
    codes = [d.update_returncode for d in domains if d.update_returncode is not None]
    return RunRecord(
        run_id=tools.folder.run_id,
        started_at=story.started_at,
        finished_at=utc_now(tools.clock) if finished else None,
        outcome=outcome,
        exit_code=error.exit_code if error else EXIT_CODES[outcome],
        budget_s=tools.config.budget_s,
        host=story.host,
        update=UpdateRecord(
            kind=tools.update.kind,
            command=tools.update.command,
            returncode=max(codes, default=None),
            duration_s=sum(durations) if durations else None,
            scope=tools.update.scope.value,
        ),
        update_domains=domains,
        guests=tuple(guest for result in story.results for guest in result.guests),
        harness_version=__version__,
        label=story.label,
        tolerance_s=tools.config.clock.tolerance_s,
        warnings=(
            *story.plan.warnings,
            *(line for result in story.results for line in result.warnings),
            *_doubts_about_the_host(),
        ),
        problems=tuple(problems),
    )
