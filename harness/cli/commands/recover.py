"""``harness recover``: finish what a dead run left behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from harness import api
from harness.cli import telling
from harness.cli.commands.common import (
    connection_options,
    json_option,
    out,
    print_json,
    say,
    spoken,
)
from harness.cli.recovered_part import answer_of, release
from harness.cli.recovery_words import summary, told
from harness.core.errors import GuestStranded, HarnessError, Interrupted
from harness.core.records import EXIT_CODES, Outcome
from harness.maintenance.recovery.record import HELD, GuestRecovery, RunRecovery
from harness.maintenance.recovery.round import Recovery
from harness.results.folder import RunFolder
from harness.results.report.words import offset, printable


@click.command(
    epilog="""\b
Examples:
  harness recover --dry-run                what would be resumed, what left alone, and why
  harness recover
"""
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--no-report",
    is_flag=True,
    envvar="HARNESS_NO_REPORT",
    help="Make no report.html and no entry in the history; both can be made later.",
)
@connection_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config_file: Path | None,
    uri: str | None,
    dry_run: bool,
    no_report: bool,
    as_json: bool,
) -> None:
    """Resume what dead runs left paused, correct those clocks, complete their records.

    Dead runs are found by their journals, in every state folder that is known on this machine.
    Only guests that a run's own journal says it paused are resumed, and only if nothing that can be
    seen speaks against it; any other guest that is paused is named. Safe to run at any time, and
    again. What it needs to know is in the run folder; -c and --uri lay over that. A run that cannot
    be finished does not hold up the others, and makes it exit code 3, as does a paused guest that
    no run here holds. Exit code 4: a guest of a run is still paused. A run that ended with its
    kernel, by design, is judged here: the exit code is then that of its record, too.
    """
    found = api.recover(config_file=config_file, uri=uri, dry_run=dry_run)
    _say(found, as_json)
    if not dry_run:
        with spoken():
            for problem in telling.of_recovery(found.runs):
                say(f"warning: {problem}")
        _tell_fleet(found)
        if found.signal_name is None:
            _redraw_all(found, page=not no_report)
    ctx.exit(_exit_code(found))


def _say(found: Recovery, as_json: bool) -> None:
    with spoken():
        for one in found.runs:
            if one.error is not None:
                say(f"run {one.folder.run_id} is not finished: {one.error}")
        if as_json:
            print_json(_as_data(found))
        elif found.runs:
            _print(found.runs)
        for line in told(found):
            say(line)
        if not as_json:
            click.echo(printable(summary(found)))


def _tell_fleet(found: Recovery) -> None:
    with spoken():
        for one in found.runs:
            release(one, lambda line: say(f"warning: {line}"))
            answer = answer_of(one.folder)
            if answer is not None and not one.stranded and one.error is None:
                say(
                    f"rollout {answer.rollout}: the part of this host is over: {answer.outcome} "
                    f"(exit code {answer.exit_code})"
                )


def _redraw_all(found: Recovery, *, page: bool) -> None:
    with spoken():
        for one in found.runs:
            if one.error is None:
                _redraw(one.folder, page=page)


def _exit_code(found: Recovery) -> int:
    """Return the exit code; raises GuestStranded or Interrupted, which have one."""
    paused = found.still_paused
    if paused:
        raise GuestStranded(paused, [g.resume_hint for one in found.runs for g in one.guests])
    if found.signal_name is not None:
        raise Interrupted(found.signal_name, said=summary(found))
    outcomes = [g.clock_verdict for one in found.runs for g in one.guests if g.clock_verdict]
    outcomes += [one.verdict for one in found.runs if one.verdict is not None]
    outcomes += [Outcome.ERROR for one in found.runs if one.error is not None]
    outcomes += [Outcome.ERROR] * (len(found.paused) + len(found.not_looked_at))
    return EXIT_CODES[Outcome.worst([Outcome.PASS, *outcomes])]


def _redraw(folder: RunFolder, *, page: bool) -> None:
    """The record is complete now; so are the reports that are made from it."""
    from harness.results.publish import finish
    from harness.results.report import junit

    try:
        junit.keep(folder, folder.record())
    except HarnessError as error:
        say(f"warning: {error}")
    for warning in finish(folder) if page else ():
        say(f"warning: {warning}")


def _as_data(found: Recovery) -> dict[str, Any]:
    return {
        "runs": [_run(one) for one in found.runs],
        "paused": [
            {
                "name": guest.name,
                "uuid": guest.uuid,
                "uri": guest.uri,
                "state": str(guest.reading),
                "known": guest.known,
                "resume_hint": guest.resume_hint,
                "held_by": guest.held_by.run_id if guest.held_by else None,
            }
            for guest in found.paused
        ],
        "searched": [str(one.state_dir) for one in found.searched if one.refused is None],
        "not_searched": {
            str(one.state_dir): one.refused for one in found.searched if one.refused is not None
        },
        "not_followed": [str(folder.path) for folder in found.not_followed],
        "looked_at": list(found.looked_at),
        "not_looked_at": {uri: str(error) for uri, error in found.not_looked_at},
        "signal": found.signal_name,
    }


def _run(found: RunRecovery) -> dict[str, Any]:
    part = answer_of(found.folder)
    keys = {"rollout", "outcome", "exit_code"}
    return {
        "run_id": found.folder.run_id,
        "guests": [_guest(g) for g in found.guests],
        "error": str(found.error) if found.error else None,
        "notes": list(found.notes),
        "rollout": part.model_dump(mode="json", include=keys) if part is not None else None,
    }


def _guest(guest: GuestRecovery) -> dict[str, Any]:
    end = guest.clock.at_end if guest.clock else None
    return {
        "name": guest.member.name,
        "uuid": guest.member.uuid,
        "action": guest.action,
        "why": guest.why,
        "paused": guest.paused,
        "resume_hint": guest.resume_hint,
        "clock": end.model_dump() if end else None,
        "clock_outcome": guest.clock_verdict,
        "problem": guest.problem,
    }


def _print(found: Sequence[RunRecovery]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "guest", "now", "why", "clock now"):
        table.add_column(column)
    for one in found:
        if one.error is not None:
            table.add_row(one.folder.run_id, "–", "", "NOT FINISHED, see above", "–")
        elif not one.guests:
            table.add_row(one.folder.run_id, "–", "", "its journal names no guest", "–")
        for guest in one.guests:
            end = guest.clock.at_end if guest.clock else None
            why = f"{guest.why}; {guest.problem}" if guest.problem else guest.why
            table.add_row(
                Text(one.folder.run_id),
                Text(printable(guest.member.name)),
                Text(
                    guest.action, style="bold red" if guest.paused or guest.action in HELD else ""
                ),
                Text(printable(why)),
                Text(offset(end)),
            )
    out().print(table)
