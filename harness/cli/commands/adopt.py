"""``harness adopt``: make guests eligible for a replacement of their QEMU, without a boot."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.commands import completion
from harness.cli.commands.common import (
    connection_options,
    duration_option,
    json_option,
    load_config,
)
from harness.cli.commands.run import maintain, show_plan


@click.command(
    epilog="""\b
Examples:
  harness adopt web1 --dry-run           how long it would be paused, what room it takes
  harness adopt web1 web2 --budget 60s   one after another, each paused for 60 s at most
  harness adopt web1 --live-only         until its next cold boot; its definition stays
"""
)
@click.argument(
    "guests", nargs=-1, required=True, metavar="GUEST...", shell_complete=completion.guests
)
@duration_option("--budget", "budget_s", "Longest allowed pause.  [default: 30s]", bare=True)
@click.option(
    "--rate",
    type=float,
    metavar="MIB",
    help="MiB of RAM that are copied a second; measured if not given.",
)
@click.option(
    "--previous",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Unpacked packages with the QEMU that guests run in, where apt has replaced it.",
)
@click.option("--live-only", is_flag=True, help="Leave what the guest is booted by as it is.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop; nothing is paused.")
@click.option("--no-report", is_flag=True, envvar="HARNESS_NO_REPORT", help="Make no report.html.")
@connection_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config_file: Path | None,
    uri: str | None,
    guests: tuple[str, ...],
    budget_s: float | None,
    rate: float | None,
    previous: Path | None,
    live_only: bool,
    dry_run: bool,
    no_report: bool,
    as_json: bool,
) -> None:
    """Have the RAM of running guests lie where it can be kept while their QEMU is replaced.

    Each GUEST is paused, saved and restored once, in the QEMU that it runs in; its RAM is copied
    into libvirt's memory backing folder. No guest is rebooted. After that, and after every later
    boot, its QEMU can be replaced by kind qemu, which copies nothing. It is a run like any other:
    with a budget, a guardian, checks and `harness recover`.
    """
    settings = {
        "uri": uri,
        "budget_s": budget_s,
        "update.kind": "adopt",
        "update.rate_mib_s": rate,
        "update.previous": str(previous.absolute()) if previous is not None else None,
        "update.definition": False if live_only else None,
    }
    flags = {key: value for key, value in settings.items() if value is not None}
    loaded = load_config(config_file, flags)
    if dry_run:
        show_plan(loaded, guests, as_json=as_json)
    else:
        ctx.exit(maintain(loaded, guests, as_json=as_json, report=not no_report))
