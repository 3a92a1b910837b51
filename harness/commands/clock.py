"""``harness clock``: measure or mend clocks without pausing anybody."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from harness.commands.common import (
    connection_options,
    hypervisor,
    json_option,
    load_config,
    out,
    print_json,
)
from harness.config import Config
from harness.records import EXIT_CODES, ClockReading, Outcome
from harness.report.words import STYLES, offset, printable
from harness.session import GuestSession
from harness.timebase import Deadline


@click.group()
def command() -> None:
    """Measure or mend guests' clocks without pausing them."""


_tolerance = click.option("--tolerance", "tolerance_s", type=float, help="Allowed offset, seconds.")


@command.command(epilog="Example: harness clock show web1 web2")
@click.argument("guests", nargs=-1, required=True, metavar="GUEST...")
@_tolerance
@connection_options
@json_option
@click.pass_context
def show(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Measure: how far is each guest's clock from the host's, and how sure is that?"""
    ctx.exit(_each(options, _measure, as_json))


@command.command(epilog="Example: harness clock correct web1 --tolerance 0.005")
@click.argument("guests", nargs=-1, required=True, metavar="GUEST...")
@_tolerance
@click.option("--allow-backward", is_flag=True, help="Allow setting a fast clock back.")
@click.option("--dry-run", is_flag=True, help="Measure and judge only.")
@connection_options
@json_option
@click.pass_context
def correct(ctx: click.Context, /, as_json: bool, dry_run: bool, **options: Any) -> None:
    """Mend: set each guest's clock to the host's, and measure again."""
    ctx.exit(_each(options, _measure if dry_run else _correct, as_json))


Row = dict[str, Any]


def _each(options: dict[str, Any], work: Callable[..., Row], as_json: bool) -> int:
    """Do ``work`` on every guest at once; print a row each; the worst outcome's exit code."""
    from harness.fanout import fan_out

    config = load_config(
        options["config_file"],
        {
            "uri": options["uri"],
            "clock.tolerance_s": options["tolerance_s"],
            "clock.allow_backward": True if options.get("allow_backward") else None,
        },
    ).config
    deadline = Deadline.after(config.prepare_timeout_s)
    with hypervisor(config) as host:
        infos = [host.find(name, deadline) for name in options["guests"]]
        opened = partial(_opened, config, host, deadline, work)
        calls = {info.name: partial(opened, info) for info in infos}
        answers = fan_out(calls, deadline, what="measuring the clock")
    rows = [answer.get() for answer in answers.values()]
    if as_json:
        print_json({"guests": rows})
    else:
        _print(rows)
    return EXIT_CODES[Outcome.worst(Outcome(row["outcome"]) for row in rows)]


def _opened(
    config: Config, host: Any, deadline: Deadline, work: Callable[..., Row], info: Any
) -> Row:
    session = GuestSession.open(info, config, host, deadline)
    try:
        return work(session, config, deadline)
    finally:
        session.close()


def _measure(session: GuestSession, config: Config, deadline: Deadline) -> Row:
    reading = session.sampler.read(config.clock.samples, deadline)
    return _row(session, reading, reading, None, None)


def _correct(session: GuestSession, config: Config, deadline: Deadline) -> Row:
    from harness.clock.correction import correct as mend_clock

    before = session.sampler.read(config.clock.samples, deadline)
    mended = mend_clock(session.sampler, session.policy(config), deadline)
    return _row(session, before, mended.after, mended.method, mended.refused)


def _row(
    session: GuestSession,
    before: ClockReading,
    after: ClockReading,
    method: str | None,
    refused: str | None,
) -> Row:
    from harness.clock.arithmetic import judge_offset

    outcome = judge_offset(after.offset_s, after.uncertainty_s, session.tolerance_s)
    return {
        "name": session.name,
        "outcome": outcome.value,
        "tolerance_s": session.tolerance_s,
        "before": before.model_dump(),
        "after": after.model_dump(),
        "method": method,
        "refused": refused,
        "interpreter": session.sampler.interpreter,
    }


def _print(rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("guest", "clock", "now", "allowed", "corrected by", "outcome", ""):
        table.add_column(column)
    for row in rows:
        outcome = Outcome(row["outcome"])
        table.add_row(
            Text(printable(row["name"])),
            offset(ClockReading(**row["before"])),
            offset(ClockReading(**row["after"])),
            f"± {row['tolerance_s'] * 1000:g} ms",
            row["method"] or "–",
            Text(outcome.value.upper(), style=STYLES[outcome]),
            Text(printable(row["refused"] or "")),
        )
    out().print(table)
