"""``harness report``: show a run again."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.commands import completion
from harness.cli.commands.common import json_option, out, print_json, say
from harness.core.errors import UsageError
from harness.core.extras import require
from harness.core.paths import state_dir
from harness.results.folder import RECORD, RunFolder, find_run
from harness.results.report.spoken import printable


@click.command(
    epilog="""\b
Examples:
  harness report                           the newest run
  harness report 3f9a2c                    by the end (or beginning) of its id
  harness report --format html --open      draw it again and show it in a browser
  harness report --index --open            all runs as a page
  harness report --compare 3f2a91 77c0de   two runs beside each other
  harness report --json | jq .guests
"""
)
@click.argument("run", required=False, shell_complete=completion.runs)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "html", "junit", "json"]),
    help="table (default); html and junit write their file again and print where it is.",
)
@click.option("--index", is_flag=True, help="Write a page that lists all runs.")
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    shell_complete=completion.runs,
    help="Write a page with two runs beside each other.",
)
@click.option("--open", "show", is_flag=True, help="Open the page in a browser (html).")
@json_option
def command(
    run: str | None,
    form: str | None,
    index: bool,
    compare: tuple[str, str] | None,
    show: bool,
    as_json: bool,
) -> None:
    """Show RUN (id, part of one, or folder; default: the newest): table, page, JUnit or JSON."""
    if index or compare:
        if run or form or as_json or (index and compare):
            raise UsageError("--index and --compare A B stand alone, or with --open")
        _overview(compare, show)
        return
    if show and form not in (None, "html"):
        raise UsageError("--open is for the page", hint="--format html --open")
    if as_json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} exclude each other")
    form = form or ("json" if as_json else "html" if show else "table")
    folder = _found(run)
    if form == "json":
        print_json(folder.record().model_dump(mode="json"))
    elif form == "html":
        _page(folder, show)
    elif form == "junit":
        click.echo(_junit(folder))
    else:
        from harness.results.in_progress import goes_on
        from harness.results.report.table import print_run

        record = folder.record()
        if record.guests or not goes_on(folder):
            print_run(record, out(), folder.path)
        else:  # no verdict on a guest yet: a table of none would say that all is over
            click.echo(printable(f"run folder: {folder.path}"))


def _found(wanted: str | None) -> RunFolder:
    """Return the run that is meant, with a note if it goes on or died. Raises UsageError."""
    from harness.results.in_progress import goes_on, runs_in_progress
    from harness.results.unfinished import dead_runs, how_it_ended

    for live in (one.folder for one in runs_in_progress(state_dir())):
        meant = not wanted or live.run_id.startswith(wanted) or live.run_id.endswith(wanted)
        if meant and not (live.path / RECORD).exists():
            say(f"run {live.run_id} goes on and has no record yet; harness status shows it")
            break
    folder = find_run(state_dir(), wanted)
    if goes_on(folder):
        say(f"run {folder.run_id} goes on: this is what is known so far; harness status shows more")
    elif any(folder.path == dead.path for dead in dead_runs(state_dir())):
        say(f"run {folder.run_id} {how_it_ended(folder)}")
    return folder


def _overview(compare: tuple[str, str] | None, show: bool) -> None:
    require("reports", "a page of several runs")
    from harness.results.report import overview

    if compare:
        first, second = overview.both([find_run(state_dir(), one) for one in compare])
        page = overview.write_comparison(state_dir(), first, second)
    else:
        page = overview.write_index(state_dir())
    click.echo(page)
    if show:
        click.launch(page.resolve().as_uri())


def _page(folder: RunFolder, show: bool) -> None:
    from harness.results.publish import write_html

    page = write_html(folder)
    click.echo(page)
    if show:
        click.launch(page.resolve().as_uri())


def _junit(folder: RunFolder) -> Path:
    from harness.results.report import junit

    junit.keep(folder, folder.record())
    return folder.path / junit.FILE_NAME
