"""``harness hold``: guests stay paused for a person to look around."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.commands.common import (
    connection_options,
    duration_option,
    json_option,
    load_config,
    print_json,
)
from harness.cli.commands.guest_arguments import guest_arguments
from harness.core.paths import state_dir
from harness.results.report.spoken import printable


@click.command(
    epilog="""\b
Examples:
  harness hold web1 web2          paused; the shell is yours until they are resumed
  harness hold web1 --budget 2m   longer than 30 s
  harness status                  who is held, and until when
"""
)
@guest_arguments
@duration_option("--budget", "budget_s", "Longest pause, e.g. 2m.  [default: 30s]", bare=True)
@connection_options
@json_option
def command(
    config_file: Path | None,
    uri: str | None,
    guests: tuple[str, ...],
    budget_s: float | None,
    as_json: bool,
) -> None:
    """Pause guests, give the shell back, and resume them within the budget.

    An ordinary run without an update goes on in the background: with its guardian, journal, clock
    correction and checks. It resumes the guests by itself.
    """
    hold_guests(guests, config_file, uri, budget_s, as_json=as_json)


def hold_guests(
    guests: tuple[str, ...],
    config_file: Path | None,
    uri: str | None,
    budget_s: float | None,
    *,
    as_json: bool,
) -> None:
    """Start a run that holds ``guests``; return when all are paused. Raises HarnessError."""
    from harness.cli.hold import hold
    from harness.core.timebase import Deadline
    from harness.events.order import Order

    config = load_config(config_file, {"uri": uri, "budget_s": budget_s}).config
    asked = {"uri": uri, "budget_s": budget_s}
    order = Order(guests, {key: value for key, value in asked.items() if value is not None})
    deadline = Deadline.after(config.prepare_timeout_s + config.budget_s)
    held = hold(order, config_file, state_dir(), deadline)
    left_s = config.budget_s - config.resume_reserve_s
    if as_json:
        print_json(
            {
                "run_id": held.folder.run_id,
                "pid": held.process.pid,
                "guests": list(held.guests),
                "resumed_within_s": left_s,
            }
        )
        return
    names = ", ".join(held.guests)
    click.echo(printable(f"paused: {names}; will be resumed within about {left_s:.0f} s"))
    click.echo(
        f"sooner: kill -INT {held.process.pid}; afterwards: harness report {held.folder.run_id}"
    )
