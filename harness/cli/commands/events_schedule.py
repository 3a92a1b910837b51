"""``harness events schedule``: a maintenance for later, that ``serve`` carries out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from harness.cli.commands.common import duration_option, json_option, print_json, say
from harness.cli.commands.maintenance_options import (
    clock_options,
    load_maintenance,
    maintenance_options,
    maintenance_settings,
    notice_options,
)
from harness.cli.commands.plan import print_plan
from harness.core.durations import LONGEST_S, scaled
from harness.core.errors import UsageError
from harness.core.paths import state_dir
from harness.core.settings import Config
from harness.core.timebase import NS_PER_S, utc_now
from harness.maintenance.plan import Plan
from harness.results.report.words import printable

_DEFAULT_NOTICE_S = 900.0


@click.command(
    epilog="""\b
Examples:
  harness events schedule web1 web2 --at 2026-12-01T02:00+01:00 --update ./apply-patch.sh
  harness events schedule --in 6h --notify 15m
"""
)
@click.option(
    "--at",
    metavar="TIME",
    help="Earliest pause, e.g. 2026-12-01T02:00+01:00; UTC if no offset is given.",
)
@duration_option("--in", "in_s", "Earliest pause from now, e.g. 6h.")
@notice_options
@clock_options
@maintenance_options
@click.option("--once", is_flag=True, help="Do not schedule it again if the same waits already.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop; nothing is scheduled.")
@json_option
def schedule(
    config_file: Path | None,
    uri: str | None,
    guests: tuple[str, ...],
    at: str | None,
    in_s: float | None,
    once: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Have `harness events serve` carry out a maintenance later, with notice.

    It is planned now, too, so that what cannot be done is refused at once.
    """
    from harness.api import plan
    from harness.core.identity import who_am_i
    from harness.events.order import Order
    from harness.events.scheduler import find_waiting
    from harness.events.scheduler import schedule as write_down
    from harness.events.server import is_served
    from harness.events.store import Store

    when = _when(at, in_s)
    config = load_maintenance(config_file, uri, options).config
    planned = plan(config, guests)
    _refuse_closed(config, planned.plan, when)
    if dry_run and not once:
        print_plan(planned, config, as_json=as_json)
        return
    notice_s = config.events.notice_s
    notice_s = _DEFAULT_NOTICE_S if notice_s is None else notice_s
    notice_s = scaled(notice_s, config.events.time_scale)
    asked = maintenance_settings(config.uri, {**options, "notify": None})
    order = Order(guests, {**asked, "events.time_scale": 1.0})  # the notice is scaled already
    start_ns = round(when.timestamp()) * NS_PER_S
    with Store(state_dir()) as store:
        there = find_waiting(store, start_ns, notice_s, order) if once else None
        if dry_run:
            print_plan(planned, config, as_json=as_json, more={"scheduled": there})
            return
        number = there or write_down(store, start_ns, notice_s, order, who_am_i()["user"])
    if as_json:
        said = {"scheduled": number, "already": there is not None}
        print_json({**said, "not_before_ns": start_ns, "notice_s": notice_s})
    else:
        waits = "waits already, " if there is not None else ""
        click.echo(printable(f"#{number}: {waits}not before {when:%a %Y-%m-%d %H:%M:%S} UTC"))
    if not is_served(state_dir()):
        say(
            f"warning: no server is running for {state_dir()}, and only a server carries this "
            "out: harness events serve, or its systemd unit (docs/how-to/events.md)"
        )


def _when(at: str | None, later_s: float | None) -> datetime:
    """When, in UTC. Raises UsageError."""
    if (at is None) == (later_s is None):
        raise UsageError("say when: --at TIME or --in DURATION")
    now = utc_now()
    if later_s is not None:
        return now + timedelta(seconds=later_s)
    try:
        found = datetime.fromisoformat(at or "")
    except ValueError as error:
        raise UsageError(
            f"--at: invalid time {at!r}: expected e.g. 2026-12-31T02:00, which is UTC, or "
            "2026-12-31T02:00+01:00",
            hint="or --in DURATION, such as --in 8h",
        ) from error
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    if found < now:
        raise UsageError(
            f"--at: {found:%Y-%m-%d %H:%M:%S} UTC is over; it is {now:%Y-%m-%d %H:%M:%S} UTC"
        )
    if (found - now).total_seconds() > LONGEST_S:
        raise UsageError(f"--at: {found:%Y-%m-%d} is more than ten years away")
    return found


def _refuse_closed(config: Config, plan: Plan, when: datetime) -> None:
    from harness.maintenance.plan import sets_of
    from harness.maintenance.set_windows import closed_sets

    for said in closed_sets(config.availability_set, sets_of(plan.guests), when):
        raise UsageError(said, hint="give --at a time in it")
