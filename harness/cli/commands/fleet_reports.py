"""``harness fleet report`` and ``history``: a rollout as a page or JUnit file, and all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.commands.common import config_option, json_option, out, print_json
from harness.cli.commands.fleet_database import database_option, fleet_database
from harness.cli.commands.fleet_views import as_data
from harness.core.errors import UsageError
from harness.core.extras import require
from harness.core.files import private_folder, write_atomically
from harness.core.paths import state_dir
from harness.fleet.view import TROUBLE, State
from harness.results.report.words import duration, printable

_NAMES = {"html": "rollout.html", "junit": "rollout.xml"}


@click.command(
    epilog="""\b
Examples:
  harness fleet report kernel-11 --open
  harness fleet report kernel-11 --format junit -o rollout.xml
  harness fleet report --json              with what each host answered
"""
)
@click.argument("rollout", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "junit", "json"]),
    help="html (default) and junit write a file and print where it is.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="That file.  [default: in the state folder]",
)
@click.option("--open", "show", is_flag=True, help="Open the page in a browser (html).")
@config_option
@database_option
@json_option
def report(
    rollout: str | None,
    form: str | None,
    output: Path | None,
    show: bool,
    config_file: Path | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Show a whole rollout: one page, one JUnit file (a host is a suite), or JSON.

    Only the database is asked, no host. ROLLOUT: its ID; default: the newest.
    """
    if as_json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} exclude each other")
    form = form or ("json" if as_json else "html")
    if form != "html" and show:
        raise UsageError("--open is for the page", hint="--format html --open")
    if form == "json" and output is not None:
        raise UsageError("JSON is printed on stdout", hint="without --output")
    kept = fleet_database(config_file, database)
    from harness.fleet.rollouts import answers, newest, read_rollout

    found = read_rollout(kept, rollout or newest(kept))
    texts = answers(kept, found.rollout)
    if form == "html":
        require("reports", "the page of a rollout")
    from harness.fleet import report as drawn

    read = drawn.read_answers(texts)
    if form == "json":
        said = {host: one.model_dump(mode="json") for host, one in read.items()}
        print_json({**as_data(found), "answers": said})
        return
    text = drawn.page(found, read) if form == "html" else drawn.junit(found, read)
    file = output or _place(found.rollout) / _NAMES[form]
    write_atomically(file, text)
    click.echo(file)
    if show:
        click.launch(file.resolve().as_uri())


def _place(rollout: str) -> Path:
    from harness.results.rollout import RolloutFolder

    return private_folder(RolloutFolder(state_dir(), rollout).path)


@click.command(
    epilog="""\b
Examples:
  harness fleet history                    the newest rollouts, with the figures of each
  harness fleet history --json | jq '.rollouts[].longest_pause_s'
"""
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@config_option
@database_option
@json_option
def history(limit: int, config_file: Path | None, database: str | None, as_json: bool) -> None:
    """Rollouts over time: how many hosts, how many failed, how long, the worst figures."""
    kept = fleet_database(config_file, database)
    from harness.fleet.rollouts import known_rollouts, read_rollout

    rows = [_row(read_rollout(kept, one)) for one in known_rollouts(kept)[:limit]]
    if as_json:
        print_json({"schema_version": 1, "rollouts": rows})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("rollout", "", "hosts", "done", "in trouble", "took", "longest pause", "clock"):
        table.add_column(column)
    for row in rows:
        figures = [duration(row[key]) for key in ("took_s", "longest_pause_s", "worst_residual_s")]
        counts = [str(row[key]) for key in ("hosts", "done", "in_trouble")]
        name = Text(printable(row["rollout"]))
        table.add_row(name, str(row["state"]), *counts, *figures)
    out().print(table)


def _row(found: Any) -> dict[str, Any]:
    counts = found.view.counts
    parts = [host.part for host in found.view.hosts if host.part is not None]
    ended = [one.ended_s for one in parts if one.ended_s is not None]
    began_s = min((one.began_s for one in parts), default=None)
    data = as_data(found)
    return {
        "rollout": found.rollout,
        "state": found.view.state,
        "planned_at": data["planned_at"],
        "began_at": min((h["began_at"] for w in data["waves"] for h in w["hosts"] if h["began_at"]),
                        default=None),
        "hosts": len(found.view.hosts),
        "done": counts[State.DONE],
        "in_trouble": sum(counts[state] for state in TROUBLE),
        "took_s": max(ended) - began_s if ended and began_s is not None else None,
        "longest_pause_s": _worst(one.pause_window_s for one in parts),
        "worst_residual_s": _worst(one.residual_s for one in parts),
    }  # fmt: skip


def _worst(figures: Any) -> float | None:
    return max((one for one in figures if one is not None), default=None)
