"""``harness fleet``: many hosts. ``plan``: in which waves they are done."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.commands import fleet_reports, fleet_views
from harness.cli.commands.common import (
    config_option,
    duration_option,
    json_option,
    out,
    print_json,
    say,
)
from harness.cli.commands.fleet_database import database_option, fleet_database
from harness.core.errors import HarnessError, UsageError
from harness.fleet.plans import HostPlan, changes_since, read_plan
from harness.fleet.waves import FleetHost, Wave, plan_waves
from harness.results.report.words import printable

if TYPE_CHECKING:
    from harness.fleet.database import FleetDatabase
    from harness.fleet.frozen import WavesAsked

SCHEMA_VERSION = 1


@click.group()
def command() -> None:
    """Many hosts: in which order, how many at once, and how far they are."""


for _view in (fleet_views.status, fleet_reports.report, fleet_reports.history):
    command.add_command(_view)


@dataclass(frozen=True)
class _Planned:
    waves: Sequence[Wave]
    plans: Mapping[str, HostPlan]
    """Of each host, also of those that are left out."""
    warnings: Sequence[str] = ()
    soak_s: float = 0.0


@command.command(
    epilog="""\b
Examples:
  ssh host7 harness plan --json > plans/host7.json   for each host
  harness fleet plan plans/*.json --canary host7 --at-most 20
  harness fleet plan plans/*.json --wave host9=1 --json
  harness fleet plan plans/*.json --rollout kernel-11 --soak 15m     kept: the same again
  harness fleet plan plans/*.json --rollout kernel-11 --late         hosts that came later
  harness fleet plan --rollout kernel-11             the waves that were kept
"""
)
@click.argument(
    "files",
    nargs=-1,
    metavar="[HOST.json...]",
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
@duration_option("--soak", "soak_s", "How long to wait after a wave; kept with --rollout.")
@click.option("--rollout", metavar="ID", help="Keep the waves in the fleet's database, once.")
@click.option(
    "--late",
    is_flag=True,
    help="Hosts that have no wave of the rollout get waves after the others, which stay.",
)
@config_option
@database_option
@json_option
def plan(
    files: tuple[Path, ...],
    canaries: tuple[str, ...],
    waves: tuple[str, ...],
    at_most: int | None,
    soak_s: float | None,
    rollout: str | None,
    late: bool,
    config_file: Path | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Sort hosts into waves, by what each of them printed for harness plan --json.

    A host has the name of its file. Two hosts with guests of one availability set are never in one
    wave. Hosts on which there is nothing to do are left out. No host is touched.

    With --rollout the waves are kept in the fleet's database: planned again under the same ID they
    are the same, whatever the hosts say by then; with other arguments that is refused. With --late
    hosts that came later get waves after those.
    """
    given = (files, canaries, waves, at_most, soak_s)
    if soak_s is not None and (rollout is None or late):
        raise UsageError("--soak is kept when a rollout is planned first", hint="--rollout ID")
    if rollout is None:
        if late:
            raise UsageError("--late: of which rollout?", hint="--rollout ID")
        if not files:
            raise UsageError("missing HOST.json...", hint="harness plan --json of each host")
        plans = _accepted(files, canaries, waves)
        planned = _Planned(_sort(canaries, waves, at_most, plans), plans)
    else:
        from harness.fleet.frozen import WavesAsked

        known = tuple(file.stem for file in files)
        asked = WavesAsked(known, canaries, waves, at_most, soak_s)
        kept = fleet_database(config_file, database)
        if late:
            planned = _with_late(kept, rollout, asked, files)
        else:
            planned = _kept(kept, rollout, asked if any(given) else None, files)
    _tell(planned, rollout, as_json)


def _accepted(
    files: Sequence[Path], canaries: Sequence[str], waves: Sequence[str]
) -> Mapping[str, HostPlan]:
    """Return the plan of each host. Raises UsageError where one refused, or a name is unknown."""
    plans, refused = _read(files)
    if refused:
        raise UsageError("; ".join(refused), hint="leave those out, or correct what they refuse")
    _refuse_unknown((*canaries, *_chosen(waves)), plans)
    return plans


def _sort(
    canaries: Sequence[str],
    waves: Sequence[str],
    at_most: int | None,
    plans: Mapping[str, HostPlan],
) -> Sequence[Wave]:
    chosen = _chosen(waves)
    hosts = [
        FleetHost(host, one.sets, chosen.get(host), host in canaries)
        for host, one in plans.items()
        if one.not_needed is None
    ]
    return plan_waves(hosts, at_most=at_most)


def _with_late(
    database: FleetDatabase, rollout: str, asked: WavesAsked, files: Sequence[Path]
) -> _Planned:
    """Return all waves that a rollout has, after hosts that had none got theirs."""
    from harness.fleet.late import append
    from harness.results.rollout import refuse_no_id

    refuse_no_id(rollout)
    if not files:
        raise UsageError("missing HOST.json...", hint="harness plan --json of each late host")
    now = _accepted(files, asked.canary, asked.wave)
    found = append(database, rollout, now, partial(_sort, asked.canary, asked.wave, asked.at_most))
    if found is None:
        raise UsageError(f"rollout {rollout} has no waves yet", hint="plan it without --late")
    warnings = tuple(changes_since(found.plans, now, found.waves))
    return _Planned(found.waves, found.plans, warnings, found.soak_s)


def _kept(
    database: FleetDatabase, rollout: str, asked: WavesAsked | None, files: Sequence[Path]
) -> _Planned:
    """Return the waves that a rollout has; those that were just made if it has none yet."""
    from harness.fleet.frozen import expect_same_waves, freeze, frozen_waves
    from harness.results.rollout import refuse_no_id

    refuse_no_id(rollout)
    found = frozen_waves(database, rollout)
    if found is None:
        if asked is None or not files:
            raise UsageError(
                f"rollout {rollout} has no waves yet", hint="HOST.json...: the plan of each host"
            )
        plans = _accepted(files, asked.canary, asked.wave)
        new = _sort(asked.canary, asked.wave, asked.at_most, plans)
        freeze(database, rollout, asked, new, plans)
        found = frozen_waves(database, rollout)
    if found is None:
        raise UsageError(f"rollout {rollout} was removed meanwhile")
    warnings: list[str] = []
    if asked is not None:
        if not files:
            asked = replace(asked, hosts=tuple(found.plans))
        expect_same_waves(found, asked)
        now, refused = _read(files)
        warnings = [*refused, *changes_since(found.plans, now, found.waves)]
    return _Planned(found.waves, found.plans, warnings, found.soak_s)


def _tell(planned: _Planned, rollout: str | None, as_json: bool) -> None:
    plans, left_out = planned.plans, {}
    for host, one in plans.items():
        if one.not_needed is not None:
            left_out[host] = one.not_needed
    for warning in planned.warnings:
        say(f"warning: {warning}")
    if as_json:
        kept = {"rollout": rollout, "soak_s": planned.soak_s, "warnings": list(planned.warnings)}
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "waves": [
                    {"number": number, "canary": wave.canary, "hosts": list(wave.hosts)}
                    for number, wave in enumerate(planned.waves, 1)
                ],
                "not_needed": left_out,
                **(kept if rollout is not None else {}),
            }
        )
        return
    _print(planned.waves, plans)
    for host, why in left_out.items():
        click.echo(printable(f"left out: {host}: {why}"))


def _read(files: Sequence[Path]) -> tuple[dict[str, HostPlan], list[str]]:
    """Return the plan of each host, and why there is none of others. Raises UsageError."""
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
    return found, refused


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
