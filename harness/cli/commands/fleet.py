"""``harness fleet``: many hosts. ``plan``: in which waves they are done."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from harness.cli.commands.common import json_option, out, print_json
from harness.core.errors import HarnessError, UsageError
from harness.fleet.plans import HostPlan, read_plan
from harness.fleet.waves import FleetHost, Wave, plan_waves
from harness.results.report.words import printable

SCHEMA_VERSION = 1


@click.group()
def command() -> None:
    """Many hosts: in which order, and how many at once."""


@command.command(
    epilog="""\b
Examples:
  ssh host7 harness plan --json > plans/host7.json   for each host
  harness fleet plan plans/*.json --canary host7 --at-most 20
  harness fleet plan plans/*.json --wave host9=1 --json
"""
)
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="HOST.json...",
    type=click.Path(path_type=Path, dir_okay=False),
)
@click.option("--canary", "canaries", multiple=True, metavar="HOST", help="Done first; repeatable.")
@click.option(
    "--wave",
    "waves",
    multiple=True,
    metavar="HOST=N",
    help="Put a host into this wave, from 1, after the canaries; repeatable.",
)
@click.option("--at-most", type=click.IntRange(min=1), help="No more hosts than this in a wave.")
@json_option
def plan(
    files: tuple[Path, ...],
    canaries: tuple[str, ...],
    waves: tuple[str, ...],
    at_most: int | None,
    as_json: bool,
) -> None:
    """Sort hosts into waves, by what each of them printed for harness plan --json.

    A host has the name of its file. Two hosts with guests of one availability set are never in one
    wave. Hosts on which there is nothing to do are left out. Nothing is touched.
    """
    plans = _read(files)
    needed = {host: one for host, one in plans.items() if one.not_needed is None}
    chosen = _chosen(waves)
    _refuse_unknown((*canaries, *chosen), plans)
    hosts = [
        FleetHost(host, one.sets, chosen.get(host), host in canaries)
        for host, one in needed.items()
    ]
    found = plan_waves(hosts, at_most=at_most)
    left_out = {host: one.not_needed for host, one in plans.items() if one.not_needed is not None}
    if as_json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "waves": [
                    {"number": number, "canary": wave.canary, "hosts": list(wave.hosts)}
                    for number, wave in enumerate(found, 1)
                ],
                "not_needed": left_out,
            }
        )
        return
    _print(found, plans)
    for host, why in left_out.items():
        click.echo(printable(f"left out: {host}: {why}"))


def _read(files: Sequence[Path]) -> dict[str, HostPlan]:
    """Return the plan of each host. Raises UsageError, which names all that are refused."""
    found: dict[str, HostPlan] = {}
    refused: list[str] = []
    for file in files:
        host = file.stem
        if host in found:
            raise UsageError(f"host {host} has two files", hint="a file is named for its host")
        try:
            found[host] = read_plan(host, json.loads(file.read_text(encoding="utf-8")))
        except HarnessError as error:
            refused.append(str(error))
        except (OSError, ValueError, RecursionError) as error:
            why = getattr(error, "strerror", None) or "it is not JSON"
            logging.getLogger(__name__).debug("%s", error)
            refused.append(f"host {host}: {file} cannot be read: {why}")
    if refused:
        raise UsageError("; ".join(refused), hint="leave those out, or correct what they refuse")
    return found


def _chosen(waves: Iterable[str]) -> dict[str, int]:
    found = {}
    for text in waves:
        host, _, number = text.rpartition("=")
        if not host or not number.isdecimal() or not int(number):
            raise UsageError(f"--wave: invalid {text!r}", hint="HOST=N, with N from 1")
        found[host] = int(number)
    return found


def _refuse_unknown(named: Iterable[str], plans: Mapping[str, Any]) -> None:
    from harness.core.nearest import nearest

    for host in named:
        if host not in plans:
            raise UsageError(f"no plan of host {host!r}", hint=nearest(host, plans, "hosts"))


def _print(waves: Sequence[Wave], plans: Mapping[str, HostPlan]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("wave", "hosts", "guests", ""):
        table.add_column(column)
    for number, wave in enumerate(waves, 1):
        guests = sum(plans[host].guests for host in wave.hosts)
        label = f"{number}/{len(waves)}" + (" canary" if wave.canary else "")
        names = Text(printable(", ".join(wave.hosts)))
        table.add_row(label, str(len(wave.hosts)), str(guests), names)
    out().print(table)
