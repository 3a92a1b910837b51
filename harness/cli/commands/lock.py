"""``harness lock``: who holds this host; reserve it, let it go."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from harness.cli.commands.common import (
    connection_options,
    duration_option,
    json_option,
    load_config,
    print_json,
)
from harness.core.durations import spoken
from harness.core.errors import HarnessError, InfrastructureError, UsageError
from harness.core.timebase import SYSTEM_CLOCK
from harness.host.lock import Holder, hold_in_background, holder, really_holds
from harness.results.report.words import printable


@click.command(
    epilog="""\b
Examples:
  harness lock                                     who holds it?
  harness lock --hold "flashing the BMC" --for 2h  reserve it; expires by itself
  harness lock --release
"""
)
@click.option("--hold", metavar="REASON", help="Reserve the host, and say what for.")
@duration_option("--for", "seconds", "Reserve it for this long.", default="1h", show_default=True)
@click.option("--release", is_flag=True, help="End your own reservation.")
@connection_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config_file: Path | None,
    uri: str | None,
    hold: str | None,
    seconds: float,
    release: bool,
    as_json: bool,
) -> None:
    """Show who holds this host. One maintenance of a host at a time.

    While it is held, `harness run` ends with exit code 3 and names the holder.
    """
    if hold is not None and release:
        raise UsageError("--hold and --release exclude each other")
    where = load_config(config_file, {"uri": uri}).config.uri
    if hold is not None:
        _show(where, hold_in_background(where, hold, _some(seconds)), as_json)
    elif release:
        _release(where)
    else:
        _show(where, holder(where), as_json)


def _some(seconds: float) -> float:
    if seconds <= 0:
        raise UsageError("--for: must be longer than 0 s")
    return seconds


def _show(uri: str, found: Holder | None, as_json: bool) -> None:
    if as_json:
        data: dict[str, Any] | None = asdict(found) if found else None
        print_json({"uri": uri, "holder": data})
    elif found is None:
        click.echo(f"{uri} is free")
    else:
        click.echo(printable(f"{uri}: {found.describe(SYSTEM_CLOCK.realtime_ns())}"))


def _release(uri: str) -> None:
    """End the process that holds it, if it is a reservation; a run is not ended from here."""
    found = holder(uri)
    if found is None:
        click.echo(f"{uri} is free")
        return
    if found.until_ns is None:
        raise UsageError(
            f"{uri} is held by a run, not by a reservation", hint=f"interrupt it: pid {found.pid}"
        )
    if not really_holds(uri, found.pid):
        raise InfrastructureError(f"pid {found.pid}, which the lock names, does not hold it")
    try:
        os.kill(found.pid, signal.SIGTERM)
    except PermissionError as error:
        raise _not_yours(found) from error
    held_s = (SYSTEM_CLOCK.realtime_ns() - found.since_ns) / 1e9
    click.echo(printable(f"{uri} is free again, after {spoken(held_s)}: {found.purpose}"))


def _not_yours(found: Holder) -> HarnessError:
    return InfrastructureError(f"the reservation is {found.user}'s", hint="ask them")
