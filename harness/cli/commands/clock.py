"""``harness clock``: measure or mend clocks without pausing anybody."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from harness.cli.commands.common import (
    F,
    connection_options,
    duration_option,
    err,
    hypervisor,
    json_option,
    load_config,
    out,
    print_json,
    show_config,
)
from harness.core.records import EXIT_CODES, ClockReading, Outcome
from harness.core.settings import Config
from harness.core.timebase import Deadline
from harness.results.report.words import STYLES, duration, offset, printable

#: For what a guest does after its own deadline.
_SLACK_S = 2.0


@click.group()
def command() -> None:
    """Measure or mend guests' clocks without pausing them."""


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.argument("guests", nargs=-1, required=True, metavar="GUEST..."),
    click.option("--tolerance", "tolerance_s", type=float, help="Allowed offset, seconds."),
    click.option("--samples", type=int, help="Exchanges a reading; the quickest counts (8)."),
    click.option(
        "--interpreter", "interpreters", multiple=True, help="Only this; again for the next best."
    ),
    duration_option("--watch", "watch_s", "Look on for so long, e.g. 60s: does it stay right?"),
    click.option("--show-config", is_flag=True, help="Show what is in force and where from."),
)


def _clock_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return connection_options(json_option(function))


@command.command(epilog="Example: harness clock show web1 web2")
@_clock_options
@click.pass_context
def show(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Measure: how far is each guest's clock from the host's, and how sure is that?"""
    ctx.exit(_each(options, as_json, mend=False))


@command.command(epilog="Example: harness clock correct web1 --tolerance 0.005")
@_clock_options
@click.option(
    "--method", "methods", multiple=True, help="Correct only by this; again for the next to try."
)
@click.option("--allow-backward", is_flag=True, help="Allow setting a fast clock back.")
@click.option("--dry-run", is_flag=True, help="Measure and judge only.")
@click.pass_context
def correct(ctx: click.Context, /, as_json: bool, dry_run: bool, **options: Any) -> None:
    """Mend: set each guest's clock to the host's, and measure again."""
    ctx.exit(_each(options, as_json, mend=not dry_run))


Row = dict[str, Any]


def _each(options: dict[str, Any], as_json: bool, *, mend: bool) -> int:
    """Tend every guest at once; print a row each; the worst outcome's exit code."""
    loaded = load_config(
        options["config_file"],
        {
            "uri": options["uri"],
            "clock.tolerance_s": options["tolerance_s"],
            "clock.samples": options["samples"],
            "clock.watch_s": options["watch_s"],
            "clock.interpreters": list(options["interpreters"]) or None,
            "clock.methods": list(options.get("methods") or ()) or None,
            "clock.allow_backward": True if options.get("allow_backward") else None,
        },
    )
    if options["show_config"]:
        show_config(loaded, as_json)
        return 0
    rows = _rows(loaded.config, options["guests"], mend=mend)
    if as_json:
        print_json({"guests": rows})
    else:
        _print(rows)
    return EXIT_CODES[Outcome.worst(Outcome(row["outcome"]) for row in rows)]


def _rows(config: Config, names: tuple[str, ...], *, mend: bool) -> list[Row]:
    """A row for every guest, also for one that could not be read. Raises GuestNotFound."""
    from harness.api import ssh
    from harness.core.fanout import errors, fan_out
    from harness.maintenance.guest_clock import lost, tend

    deadline = Deadline.after(config.prepare_timeout_s + config.clock.watch_s)
    with hypervisor(config) as host:
        infos = [host.find(name, deadline) for name in names]
        calls = {
            info.name: partial(tend, info, config, host, ssh(), deadline, mend=mend)
            for info in infos
        }
        until = Deadline.after(deadline.limit_s + _SLACK_S)
        answers = fan_out(calls, until, what="measuring the clock")
    failed = errors(answers)
    return [
        lost(name, config, failed[name]) if name in failed else answer.get()
        for name, answer in answers.items()
    ]


def _print(rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("guest", "clock", "now", "allowed", "corrected by", "outcome"):
        table.add_column(column)
    for row in rows:
        outcome = Outcome(row["outcome"])
        allowed = row["tolerance_s"]
        table.add_row(
            Text(printable(row["name"])),
            offset(_reading(row["before"])),
            offset(_reading(row["after"])),
            "–" if allowed is None else f"± {allowed * 1000:g} ms",
            row["method"] or "–",
            Text(outcome.value.upper(), style=STYLES[outcome]),
        )
    out().print(table)
    for row in rows:
        for words in _remarks(row):
            out().print(Text(printable(f"{row['name']}: {words}")), soft_wrap=True)
    if any(row.get("host_synchronised") is False for row in rows):
        err().print("the host's own clock is not synchronised", style="yellow")


def _reading(fields: Row | None) -> ClockReading | None:
    return ClockReading(**fields) if fields else None


def _remarks(row: Row) -> list[str]:
    """What a person should know beyond the figures."""
    remarks = [row["problem"]] if row["problem"] else []
    if row.get("guest_agent_agrees") is False:
        apart = duration(row["guest_agent_disagreement_s"])
        remarks.append(f"the guest agent tells another time, by {apart}")
    watch = row.get("watch")
    if watch and watch["drift_ppm"] is not None:
        rate, sure = watch["drift_ppm"], watch["drift_uncertainty_ppm"]
        remarks.append(f"watched {watch['duration_s']:g} s: drift {rate:+.0f} ± {sure:.0f} ppm")
    return remarks
