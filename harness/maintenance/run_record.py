"""The record of a run: what was known before its first pause, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from harness import __version__
from harness.core.errors import GuestStranded, HarnessError, Interrupted, guests_of
from harness.core.records import (
    EXIT_CODES,
    GuestRecord,
    HostRecord,
    Outcome,
    RunRecord,
    UpdateDomainRecord,
    UpdateRecord,
)
from harness.host.clock_sync import HOW_TO_SYNCHRONISE, synchronised
from harness.maintenance.domain import DomainResult
from harness.maintenance.notice import Notice
from harness.maintenance.plan import Plan
from harness.results.report.spoken import counted
from harness.updates.protocol import HostUpdate, Part, SeveralUpdates


@dataclass(frozen=True)
class RunHead:
    """What is known of a run before its first pause."""

    run_id: str
    label: str
    """How the run came about, for the history."""
    started_at: datetime
    host: HostRecord
    plan: Plan
    update: HostUpdate
    budget_s: float
    tolerance_s: float | None
    follows: str | None = None
    """The run of the window before."""
    rollout: str | None = None
    """The rollout that it is this host's part of."""


@dataclass(frozen=True)
class RunResult:
    """What came of a run so far."""

    domains: tuple[DomainResult, ...] = ()
    error: HarnessError | None = None
    """What ended it early."""
    stranded: tuple[str, ...] = ()
    """Guests that are paused though their update domain has no result."""
    warnings: tuple[str, ...] = ()
    """What was found at login that a person should know."""
    interrupted_by: str | None = None
    """The signal that asked it to end."""
    planned: tuple[str, ...] = ()
    """The guests of the plan, by name."""

    def then(self, domain: DomainResult) -> RunResult:
        """Return this with one update domain more."""
        return replace(self, domains=(*self.domains, domain))

    @property
    def healthy(self) -> bool:
        """Every update domain so far has passed."""
        return all(one.record.outcome is Outcome.PASS for one in self.domains)

    @property
    def loudest(self) -> HarnessError | None:
        """The error that the run ends with: a guest that is still paused goes before all else."""
        stranded = [name for one in self.domains for name in one.stranded]
        stranded += self.stranded
        if stranded:
            guests = [guest for one in self.domains for guest in one.guests]
            return GuestStranded(stranded, [guest.resume_hint for guest in guests])
        if self.interrupted_by is not None:
            return Interrupted(self.interrupted_by, self._guests_then())
        return self.error

    def _guests_then(self) -> str:
        """Say what became of the guests of a run that was interrupted: none of them is paused."""
        ours = {g.name for one in self.domains for g in one.guests if g.pause_window_s is not None}
        if not ours:
            return "no guest was paused"
        left = [name for name in self.planned if name not in ours]
        alone = f"; not begun: {', '.join(left)}" if left else ""
        return f"{counted(len(ours), 'guest')} resumed, 0 paused (checked){alone}"


def record_run(
    head: RunHead, result: RunResult, notice: Notice, finished_at: datetime | None
) -> RunRecord:
    """Return the record of a run; ``finished_at`` is None for one that goes on."""
    error = result.loudest
    problems = [str(error)] if error else []
    if finished_at is None:
        problems.append("this run has not finished; if its process is gone: harness recover")
    outcomes = [one.record.outcome for one in result.domains]
    outcome = Outcome.worst([*outcomes, Outcome.ERROR] if error else outcomes)
    domains = tuple(_with_notice(one.record, notice) for one in result.domains)
    scope = head.update.scope.value
    ends = [(one.update_returncode, one.update_s) for one in domains]
    update = _update(head.update, scope, ends)
    return RunRecord(
        run_id=head.run_id,
        started_at=head.started_at,
        finished_at=finished_at,
        outcome=outcome,
        exit_code=error.exit_code if error else EXIT_CODES[outcome],
        budget_s=head.budget_s,
        host=head.host,
        update=update,
        updates=_updates(head.update, scope, domains) or (update,),
        follows=head.follows,
        update_domains=domains,
        guests=(
            *(guest for one in result.domains for guest in one.guests),
            *_failed_before(head.plan, result),
        ),
        harness_version=__version__,
        label=head.label,
        rollout=head.rollout,
        tolerance_s=head.tolerance_s,
        warnings=(
            *head.plan.warnings,
            *result.warnings,
            *(line for one in result.domains for line in one.warnings),
            *_doubts_about_the_host(),
        ),
        problems=tuple(problems),
    )


def _update(
    update: HostUpdate | Part, scope: str, ends: Iterable[tuple[int | None, float | None]]
) -> UpdateRecord:
    """``ends``: the status and the duration (seconds) in each update domain."""
    ends = list(ends)
    codes = [code for code, _ in ends if code is not None]
    durations = [took_s for _, took_s in ends if took_s is not None]
    return UpdateRecord(
        kind=update.kind,
        command=update.command,
        returncode=max(codes, default=None),
        duration_s=sum(durations) if durations else None,
        scope=scope,
    )


def _updates(
    update: HostUpdate, scope: str, domains: Sequence[UpdateDomainRecord]
) -> tuple[UpdateRecord, ...]:
    """Each of several updates; nothing where there is one."""
    if not isinstance(update, SeveralUpdates):
        return ()
    ends = [[(one.returncode, one.duration_s) for one in domain.updates] for domain in domains]
    return tuple(
        _update(part, scope, [of_domain[number] for of_domain in ends if of_domain])
        for number, part in enumerate(update.parts)
    )


def _failed_before(plan: Plan, result: RunResult) -> tuple[GuestRecord, ...]:
    """Return a record of each guest that failed before its update domain was begun, with why."""
    known = {guest.name for one in result.domains for guest in one.guests}
    why = guests_of(result.error)
    return tuple(
        GuestRecord(
            name=guest.name,
            uuid=guest.info.uuid,
            outcome=Outcome.ERROR,
            accelerator=guest.info.accelerator,
            problems=(str(why[guest.name]),),
        )
        for guest in plan.guests
        if guest.name in why and guest.name not in known
    )


def _with_notice(record: UpdateDomainRecord, notice: Notice) -> UpdateDomainRecord:
    return record.model_copy(update={"notice": notice.record(record.name)})


def _doubts_about_the_host() -> tuple[str, ...]:
    if synchronised() is not False:
        return ()
    return (
        "the host's own clock is not synchronised; guests were measured against it as it is "
        f"(hint: {HOW_TO_SYNCHRONISE})",
    )
