"""``harness fleet status``: how far a rollout is, by what the fleet's database knows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.commands.common import config_option, json_option, out, print_json
from harness.cli.commands.fleet_database import database_option, fleet_database
from harness.core.durations import spoken
from harness.fleet.view import TROUBLE, HostView, RolloutView, State, WaveView
from harness.results.report.words import printable

if TYPE_CHECKING:
    from harness.fleet.leases import Lease
    from harness.fleet.rollouts import Rollout

SCHEMA_VERSION = 1
_STYLES = {
    State.DONE: "green",
    State.FAILED: "bold red",
    State.DIED: "bold red",
    State.SILENT: "bold yellow",
    State.WAITING: "dim",
}


@click.command(
    epilog="""\b
Examples:
  harness fleet status                     the rollout of which something was heard last
  harness fleet status kernel-11 --json
"""
)
@click.argument("rollout", required=False)
@config_option
@database_option
@json_option
def status(
    rollout: str | None, config_file: Path | None, database: str | None, as_json: bool
) -> None:
    """How far a rollout is: wave by wave, who is done, soaking, waiting, failed.

    Only the database is asked, no host. ROLLOUT: its ID; default: the one heard of last. A host
    that should have said more by now is silent; one whose run was found dead has died.
    """
    kept = fleet_database(config_file, database)
    from harness.fleet.rollouts import newest, read_rollout

    found = read_rollout(kept, rollout or newest(kept))
    if as_json:
        print_json(as_data(found))
    else:
        _print(found)


def as_data(found: Rollout) -> dict[str, Any]:
    """Return the view of a rollout for programs."""
    seen, frozen = found.view, found.frozen
    return {
        "schema_version": SCHEMA_VERSION,
        "rollout": found.rollout,
        "at": _iso(found.now_s),
        "state": seen.state,
        "wave": seen.current.number if seen.current is not None else None,
        "waves_in_all": len(frozen.waves) if frozen is not None else None,
        "planned_at": _iso(frozen.planned_s) if frozen is not None else None,
        "planned_by": frozen.planned_by if frozen is not None else None,
        "soak_s": frozen.soak_s if frozen is not None else 0.0,
        "counts": {str(state): count for state, count in seen.counts.items()},
        "not_needed": _not_needed(found),
        "waves": [_wave(one) for one in seen.waves],
        "leases": [_lease(one, found.now_s) for one in found.leases],
    }


def _not_needed(found: Rollout) -> dict[str, str]:
    plans = found.frozen.plans if found.frozen is not None else {}
    return {host: one.not_needed for host, one in plans.items() if one.not_needed is not None}


def _wave(wave: WaveView) -> dict[str, Any]:
    return {
        "number": wave.number,
        "canary": wave.canary,
        "state": wave.state,
        "soaks_until": _iso(wave.soaks_until_s),
        "hosts": [_host(one) for one in wave.hosts],
    }


def _host(host: HostView) -> dict[str, Any]:
    part = host.part
    return {
        "host": host.name,
        "state": host.state,
        "run_id": (part.run_id or None) if part else None,
        "doing": (part.doing or None) if part else None,
        "began_at": _iso(part.began_s if part else None),
        "told_at": _iso(part.told_s if part else None),
        "due_at": _iso(part.due_s if part else None),
        "ended_at": _iso(part.ended_s if part else None),
        "outcome": part.ending if part else None,
        "exit_code": part.exit_code if part else None,
        "message": part.message if part else None,
        "guests": part.guests if part else None,
        "pause_window_s": part.pause_window_s if part else None,
        "residual_s": part.residual_s if part else None,
    }


def _lease(lease: Lease, now_s: float) -> dict[str, Any]:
    return {
        "availability_set": lease.availability_set,
        "update_domain": lease.update_domain,
        "run_id": lease.run_id,
        "host": lease.host,
        "taken_at": _iso(lease.taken_s),
        "expires_at": _iso(lease.expires_s),
        "expired": lease.expires_s <= now_s,
    }


def _iso(at_s: float | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat()


def _print(found: Rollout) -> None:
    from rich.table import Table
    from rich.text import Text

    seen = found.view
    click.echo(printable(_headline(found)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [state for state, count in seen.counts.items() if count]
    for column in ("wave", "", "hosts", *map(str, shown)):
        table.add_column(column)
    for wave in seen.waves:
        states = [host.state for host in wave.hosts]
        counts = [str(states.count(state) or "") for state in shown]
        state = Text(_said(wave, found.now_s), style=_STYLES.get(wave.state, ""))
        table.add_row(_label(wave, seen), state, str(len(states)), *counts)
    out().print(table)
    for line in _notes(found):
        click.echo(printable(line))


def _headline(found: Rollout) -> str:
    seen = found.view
    at = f"wave {seen.current.number}/{len(seen.waves)}, " if seen.current is not None else ""
    said = f"rollout {found.rollout}: {at}{seen.state}"
    if found.frozen is None:
        return f"{said}; it was begun without waves"
    soak = f", {spoken(found.frozen.soak_s)} soak after each wave" if found.frozen.soak_s else ""
    ago = spoken(found.now_s - found.frozen.planned_s)
    return f"{said}; planned {ago} ago by {found.frozen.planned_by}{soak}"


def _label(wave: WaveView, seen: RolloutView) -> str:
    if not wave.number:
        return "in none"
    last = max(one.number for one in seen.waves)
    return f"{wave.number}/{last}" + (" canary" if wave.canary else "")


def _said(wave: WaveView, now_s: float) -> str:
    if wave.state is State.SOAKING and wave.soaks_until_s is not None:
        return f"soaking, another {spoken(wave.soaks_until_s - now_s)}"
    return str(wave.state)


def _notes(found: Rollout) -> Iterable[str]:
    for host in found.view.hosts:
        part = host.part
        if part is None or host.state is State.DONE:
            continue
        ago = f"{spoken(found.now_s - part.told_s)} ago"
        run = f", run {part.run_id}" if part.run_id else ""
        if host.state in (State.RUNNING, State.SOAKING):
            yield f"{host.name}: {part.doing}, {ago}{run}"
        elif host.state is State.SILENT:
            yield f"{host.name}: silent since {part.doing}, {ago}{run} (hint: {_LOOK})"
        elif host.state in TROUBLE or part.message:
            yield f"{host.name}: {part.ending}, {ago}{run}: {part.message or 'no reason told'}"
    for host_name, why in _not_needed(found).items():
        yield f"{host_name}: left out: {why}"
    for lease in found.leases:
        yield _of_a_lease(lease, found.now_s)


_LOOK = "harness status there; harness recover finishes a run that died"


def _of_a_lease(lease: Lease, now_s: float) -> str:
    if lease.expires_s > now_s:
        return f"availability set {lease.availability_set} is held by {lease.describe(now_s)}"
    return f"{lease.lapsed(now_s)} (hint: {_LOOK})"
