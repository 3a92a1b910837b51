"""``harness clock``: measure or correct clocks without pausing guests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.table import Table
from rich.text import Text

from harness.cli.commands.common import (
    F,
    connection_options,
    duration_option,
    err,
    json_option,
    load_config,
    out,
    print_json,
    show_config,
    show_config_option,
)
from harness.cli.commands.guest_arguments import guest_arguments
from harness.cli.commands.parameters import OneOf
from harness.core.errors import UsageError
from harness.core.records import EXIT_CODES, Outcome
from harness.core.settings import DEFAULT_METHODS, Access, InterpreterName
from harness.host.clock_sync import HOW_TO_SYNCHRONISE
from harness.results.report.words import STYLES, duration, offset, printable

if TYPE_CHECKING:
    from harness.maintenance.clocks import ClockReport


@click.group()
def command() -> None:
    """Measure or correct guests' clocks without pausing them."""


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    duration_option("--tolerance", "tolerance_s", "Allowed offset, e.g. 5ms.", bare=True),
    click.option("--samples", type=int, help="Samples a reading; the quickest counts (8)."),
    click.option(
        "--interpreter",
        "interpreters",
        multiple=True,
        type=OneOf(get_args(InterpreterName), what="interpreter"),
        help="Read clocks only by this; repeatable, in the order to try.",
    ),
    duration_option("--watch", "watch_s", "Watch the clock for this long: does it stay right?"),
    click.option(
        "--access",
        type=OneOf(get_args(Access), what="way"),
        help="Way into the guests: SSH, their guest agent, or whichever works.  [default: ssh]",
    ),
    show_config_option,
)


def _clock_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return connection_options(json_option(guest_arguments(function)))


@command.command(epilog="Example: harness clock show web1 web2")
@_clock_options
@click.pass_context
def show(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Measure: how far is each guest's clock from the host's, and how sure is that?"""
    ctx.exit(_each(options, as_json, correct=False))


@command.command(epilog="Example: harness clock correct web1 --tolerance 5ms")
@_clock_options
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=OneOf(DEFAULT_METHODS, what="method"),
    help="Correct clocks only by this; repeatable, in the order to try.",
)
@click.option("--allow-backward", is_flag=True, help="Allow setting a fast clock back.")
@click.option("--dry-run", is_flag=True, help="Measure and judge only.")
@click.pass_context
def correct(ctx: click.Context, /, as_json: bool, dry_run: bool, **options: Any) -> None:
    """Set each guest's clock to the host's, and measure again."""
    ctx.exit(_each(options, as_json, correct=not dry_run))


def _each(options: dict[str, Any], as_json: bool, *, correct: bool) -> int:
    """Tend every guest at once; print a row each; the worst outcome's exit code."""
    if not options["guests"]:
        raise UsageError("missing GUEST", hint="name guests, or --all")
    loaded = load_config(
        options["config_file"],
        {
            "uri": options["uri"],
            "access": options["access"],
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
    from harness import api

    settle = api.correct_clocks if correct else api.read_clocks
    outcomes = settle(loaded.config, options["guests"])
    if as_json:
        print_json({"guests": [one.model_dump(mode="json") for one in outcomes]})
    else:
        _print(outcomes)
    return EXIT_CODES[Outcome.worst(one.outcome for one in outcomes)]


def _print(outcomes: Sequence[ClockReport]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("guest", "clock", "now", "allowed", "corrected by", "outcome"):
        table.add_column(column)
    for one in outcomes:
        allowed = one.tolerance_s
        table.add_row(
            Text(printable(one.name)),
            offset(one.before),
            offset(one.after),
            "–" if allowed is None else f"± {allowed * 1000:g} ms",
            one.method or "–",
            Text(one.outcome.value.upper(), style=STYLES[one.outcome]),
        )
    out().print(table)
    for one in outcomes:
        for words in _remarks(one):
            out().print(Text(printable(f"{one.name}: {words}")), soft_wrap=True)
    if any(one.host_synchronised is False for one in outcomes):
        said = f"the host's own clock is not synchronised (hint: {HOW_TO_SYNCHRONISE})"
        err().print(said, style="yellow", soft_wrap=True)


def _remarks(one: ClockReport) -> list[str]:
    """What a person should know beyond the figures."""
    remarks = [one.problem] if one.problem else []
    if one.guest_agent_agrees is False and one.guest_agent_disagreement_s is not None:
        apart = duration(one.guest_agent_disagreement_s)
        remarks.append(f"the guest agent tells another time, by {apart}")
    watch = one.watch
    if watch and watch.drift_ppm is not None and watch.drift_uncertainty_ppm is not None:
        rate, sure = watch.drift_ppm, watch.drift_uncertainty_ppm
        remarks.append(f"watched {watch.duration_s:g} s: drift {rate:+.0f} ± {sure:.0f} ppm")
    return remarks
