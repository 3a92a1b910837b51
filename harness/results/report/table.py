"""A run's record as the table that a person reads in a terminal."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.core.pasteable import virsh
from harness.core.records import (
    CheckRecord,
    GuestRecord,
    NoticeRecord,
    Outcome,
    RunRecord,
    UpdateDomainRecord,
)
from harness.results.report.words import STYLES, duration, measured, offset, printable

_NONE = "no update domain is in the record"


def print_run(
    record: RunRecord, console: Console, folder: Path | None = None, said: Collection[str] = ()
) -> None:
    """Verdict, update domains, guests, then what was not all right.

    ``said``: problems of guests that are reported in another place, and not here.
    """
    domains = _domains(record) if record.update_domains else _text(_NONE)
    console.print(_headline(record), "", domains, sep="\n")
    for domain in record.update_domains:
        if domain.notice is not None:
            console.print(_text(f"update domain {domain.name}: {_said(domain.notice)}", "dim"))
    console.print()
    if record.guests and record.update_domains:
        console.print(_guests(record), "", sep="\n")
    for guest in record.guests:
        _print_troubles(guest, console, said)
    for domain in record.update_domains:
        for problem in domain.problems:
            words = _text(f"update domain {domain.name}: {problem}", "yellow")
            console.print(words, soft_wrap=True)  # what it says to paste stays in one line
    for warning in record.warnings:
        console.print(_text(f"warning: {warning}", "yellow"), soft_wrap=True)
    if folder:
        console.print(_text(f"run folder: {folder}", "dim"), soft_wrap=True)


def _text(words: str, style: str = "") -> Text:
    return Text(printable(words), style=style)


def _verdict(outcome: Outcome) -> Text:
    return Text(outcome.value.upper(), style=STYLES[outcome])


def _headline(record: RunRecord) -> Text:
    took = ""
    if record.finished_at:
        took = f" in {(record.finished_at - record.started_at).total_seconds():.0f} s"
    host = record.host
    guests, domains = len(record.guests), len(record.update_domains)
    return Text.assemble(
        _verdict(record.outcome),
        _text(f"  {_count(guests, 'guest')} in {_count(domains, 'update domain')}{took}"),
        "\n",
        _text(f"host {host.hostname}, {host.hypervisor}, {host.accelerator}; ", "dim"),
        _text(f"update {record.update.kind}; budget {record.budget_s:g} s", "dim"),
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _domains(record: RunRecord) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("update domain")
    table.add_column("guests")
    for column in ("pause window", "update", "overhead"):
        table.add_column(column, justify="right")
    table.add_column("outcome")
    for domain in record.update_domains:
        table.add_row(*_domain_row(domain))
    return table


def _domain_row(domain: UpdateDomainRecord) -> tuple[Text, ...]:
    return (
        _text(domain.name),
        _text(", ".join(domain.guests)),
        _text(duration(domain.pause_window_s)),
        _text(duration(domain.update_s)),
        _text(duration(domain.overhead_s)),
        _verdict(domain.outcome),
    )


def _said(notice: NoticeRecord) -> str:
    """How it came to the pause: announced when, approved by which guest, started after how long."""
    if notice.announced_at is None:
        return "cancelled before it was announced"
    said = f"announced {notice.announced_at:%H:%M:%S} UTC"
    if notice.approved_by:
        said += f", approved by {', '.join(notice.approved_by)}"
    if notice.started_at is None:
        return f"{said}, cancelled"
    waited_s = (notice.started_at - notice.announced_at).total_seconds()
    return f"{said}, started after {duration(waited_s)}"


def _guests(record: RunRecord) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("guest")
    for column in ("paused", "clock then", "clock now", "stale for", "checks"):
        table.add_column(column, justify="right")
    table.add_column("outcome")
    for guest in record.guests:
        table.add_row(*_guest_row(guest))
    return table


def _guest_row(guest: GuestRecord) -> tuple[Text, ...]:
    passed = sum(check.outcome is Outcome.PASS for check in guest.checks)
    judged = sum(check.outcome is not Outcome.SKIP for check in guest.checks)
    at_end = guest.clock.after_correction or guest.clock.after_resume
    return (
        _text(guest.name),
        _text(duration(guest.pause_window_s)),
        _text(offset(guest.clock.after_resume, with_uncertainty=False)),
        _text(offset(at_end)),
        _text(duration(guest.stale_clock_window_s)),
        _text(f"{passed}/{judged}"),
        _verdict(guest.outcome),
    )


def _print_troubles(guest: GuestRecord, console: Console, said: Collection[str]) -> None:
    if guest.still_paused:
        hint = guest.resume_hint or virsh("", "resume", guest.name, guest.uuid)
        console.print(
            _text(f"{guest.name}: STILL PAUSED; resume it now: {hint}", "bold red"), soft_wrap=True
        )
    for problem in (one for one in guest.problems if one not in said):
        console.print(_text(problem, "yellow"), soft_wrap=True)
    if guest.clock.guest_agent_agrees is False:
        apart = duration(abs(guest.clock.guest_agent_disagreement_s or 0.0))
        say = f"{guest.name}: its guest agent tells another time than we measured, by {apart}"
        console.print(_text(say, "yellow"), soft_wrap=True)
    for check in guest.checks:
        if check.outcome in (Outcome.FAIL, Outcome.ERROR):
            console.print(_trouble(guest, check), soft_wrap=True)


def _trouble(guest: GuestRecord, check: CheckRecord) -> Text:
    parts = [part for part in (measured(check), printable(check.detail)) if part]
    return Text.assemble(
        _text(f"{guest.name}: {check.name} "),
        _verdict(check.outcome),
        _text(f": {'; '.join(parts)}"),
    )
