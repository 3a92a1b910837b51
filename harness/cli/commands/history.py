"""``harness history``: runs over time."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.commands import completion
from harness.cli.commands.common import json_option, print_json
from harness.cli.commands.history_output import (
    change,
    draw,
    print_bars,
    print_csv,
    print_runs,
    print_table,
    short_id,
    value,
)
from harness.cli.commands.parameters import PlotFile
from harness.core.errors import UsageError
from harness.core.extras import require
from harness.core.nearest import did_you_mean
from harness.results.report.spoken import printable

if TYPE_CHECKING:
    from harness.results.history.store import History, Run

_csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print the result as CSV.")
_since_option = click.option("--since", metavar="WHEN", help="A date, or a duration such as 30d.")
_SHOWN = 20


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  harness history                          the newest runs
  harness history trend overhead_s --since 30d
  harness history verdict --fail-on-regression
  harness history import                   fill it from the run folders
""",
)
@click.option(
    "--db",
    "url",
    metavar="URL",
    envvar="HARNESS_HISTORY_URL",
    help="Database: sqlite:///FILE, postgresql://… Default: history.db in the state folder.",
)
@click.pass_context
def command(ctx: click.Context, url: str | None) -> None:
    """Runs over time: list, show, compare, trend, verdict. Each run adds itself."""
    require("history", "the history of runs")
    from harness.results.history.store import History

    ctx.obj = ctx.with_resource(History.open(url))
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@command.command("list")
@_since_option
@click.option("--limit", type=click.IntRange(1), help="How many; default 20, or all since WHEN.")
@json_option
@_csv_option
@click.pass_obj
def list_(
    history: History,
    since: str | None = None,
    limit: int | None = None,
    as_json: bool = False,
    as_csv: bool = False,
) -> None:
    """The newest runs, with the figures of each."""
    limit = limit or (None if since else _SHOWN)
    found = history.newest(since=_moment(since), limit=limit)
    rows = _with_figures(history, found)
    if as_json:
        print_json({"runs": rows, "known": history.count()})
    elif as_csv:
        print_csv(rows)
    else:
        print_runs(rows, history.count())


@command.command()
@click.argument("run", required=False, shell_complete=completion.runs)
@json_option
@_csv_option
@click.pass_obj
def show(history: History, run: str | None, as_json: bool, as_csv: bool) -> None:
    """Every figure of RUN (id or part of one; default: the newest)."""
    from harness.results.history.store import as_data

    found = history.find(run)
    figures = history.figures([found.run_id])
    if as_json:
        print_json({**as_data(found), "figures": figures})
    elif as_csv:
        print_csv(figures)
    else:
        for key, said in as_data(found).items():
            words = shlex.join(said) if isinstance(said, list) else said
            click.echo(printable(f"{key:16} {words}").rstrip())
        rows = [(f["guest"] or "(run)", f["name"], value(f["name"], f["value"])) for f in figures]
        print_table(("guest", "figure", "value"), rows)


@command.command()
@click.argument("first", shell_complete=completion.runs)
@click.argument("second", required=False, shell_complete=completion.runs)
@json_option
@_csv_option
@click.pass_obj
def compare(history: History, first: str, second: str | None, as_json: bool, as_csv: bool) -> None:
    """Figure by figure: FIRST beside SECOND (default: the newest run)."""
    one, two = history.find(first), history.find(second)
    sides = [
        {(f["guest"], f["name"]): f["value"] for f in history.figures([run.run_id])}
        for run in (one, two)
    ]
    rows = [
        {"guest": key[0], "figure": key[1], "first": sides[0].get(key), "second": sides[1].get(key)}
        for key in sorted({*sides[0], *sides[1]})
    ]
    if as_json:
        print_json({"first": one.run_id, "second": two.run_id, "figures": rows})
    elif as_csv:
        print_csv(rows)
    else:
        cells = [
            (row["guest"] or "(run)", row["figure"], value(row["figure"], row["first"]),
             value(row["figure"], row["second"]), change(row["first"], row["second"]))
            for row in rows
        ]  # fmt: skip
        runs = short_id(one.run_id), short_id(two.run_id)
        print_table(("guest", "figure", *runs, "change"), cells)


@command.command()
@click.argument("figure", shell_complete=completion.figures)
@click.option("--guest", default="", help="One guest's own; default: the run's worst.")
@click.option("--plot", type=PlotFile(), help="Draw it: a FILE that ends in .svg, .png or .pdf.")
@_since_option
@json_option
@_csv_option
@click.pass_obj
def trend(
    history: History,
    figure: str,
    guest: str,
    plot: Path | None,
    since: str | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """FIGURE over nights, e.g. overhead_s, residual_s, check.clock (see `show`)."""
    from harness.results.history.figures import KINDS

    found = history.trend(figure, guest, since=_moment(since))
    if not found:
        known = set(KINDS) - {figure}
        hint = did_you_mean(figure, known) or "harness history show names those of a run"
        raise UsageError(f"no run has a figure {figure!r}", hint=hint)
    rows: list[dict[str, Any]] = [
        {"run_id": run.run_id, "started_at": run.started_at.isoformat(), "value": value}
        for run, value in found
    ]
    if plot is not None:
        draw(plot, figure, guest, found)
    if as_json:
        print_json({"figure": figure, "guest": guest, "runs": rows})
    elif as_csv:
        print_csv(rows)
    else:
        print_bars(figure, found)


@command.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...", shell_complete=completion.runs)
@click.option("--nights", type=click.IntRange(1), default=14, show_default=True)
@click.option("--fail-on-regression", is_flag=True, help="Exit code 1 if a figure got worse.")
@json_option
@click.pass_context
def verdict(
    ctx: click.Context,
    /,
    runs: tuple[str, ...],
    nights: int,
    fail_on_regression: bool,
    as_json: bool,
) -> None:
    """Tonight (or RUNs) against the comparable nights before: is a figure worse, by how much?"""
    from harness.results.history.verdict import ENOUGH_NIGHTS, judge

    found = judge(ctx.obj, runs, nights=nights)
    if as_json:
        print_json(found.as_data())
    elif not found.compared:
        click.echo(f"{found.nights} comparable nights; {ENOUGH_NIGHTS} are wanted for a verdict")
    else:
        for one in found.compared:
            click.echo(f"{'WORSE' if one.worse else 'ok':6}{one.sentence()}")
    ctx.exit(1 if fail_on_regression and found.regressions else 0)


@command.command("import")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
@click.pass_context
def import_(ctx: click.Context, folders: Sequence[Path], as_json: bool) -> None:
    """Put run FOLDERS (default: all of the state folder) in again; safe to repeat."""
    from harness.core.paths import state_dir
    from harness.results.folder import RunFolder, all_runs
    from harness.results.history.store import import_all

    chosen = [RunFolder(path) for path in folders] or list(all_runs(state_dir()))
    done, refused = import_all(ctx.obj, chosen)
    if as_json:
        print_json({"imported": done, "refused": refused})
    else:
        click.echo(f"{done} runs imported")
        for line in refused:
            click.echo(printable(f"left out: {line}"), err=True)
    ctx.exit(3 if refused else 0)


def _moment(text: str | None) -> datetime | None:
    from harness.core.durations import parse
    from harness.core.timebase import utc_now

    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except ValueError:
        pass
    try:
        return utc_now() - timedelta(seconds=parse(text))
    except (ValueError, OverflowError) as error:
        hint = "a date such as 2026-01-31, or a duration such as 30d"
        message = f"--since: {text!r} is neither a date nor a duration"
        raise UsageError(message, hint=hint) from error


def _with_figures(history: History, found: Sequence[Run]) -> list[dict[str, Any]]:
    from harness.results.history.figures import KINDS, RUN
    from harness.results.history.store import as_data

    measured: dict[str, dict[str, float]] = {}
    for row in history.figures([run.run_id for run in found], guest=RUN):
        measured.setdefault(row["run_id"], {})[row["name"]] = row["value"]
    return [
        {**as_data(run), **{name: measured.get(run.run_id, {}).get(name) for name in KINDS}}
        for run in found
    ]
