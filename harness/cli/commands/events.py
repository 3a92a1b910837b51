"""``harness events``: Scheduled Events for people: look, approve, cancel, schedule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from harness.cli.commands import completion
from harness.cli.commands.common import (
    config_option,
    json_option,
    load_config,
    out,
    print_json,
)
from harness.cli.commands.events_schedule import schedule
from harness.cli.commands.events_serve import rehearse, serve
from harness.core.durations import spoken
from harness.core.errors import UsageError
from harness.core.extras import require
from harness.core.paths import state_dir
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK
from harness.results.report.spoken import duration
from harness.results.report.words import printable

if TYPE_CHECKING:
    from harness.events.scheduler import Scheduled
    from harness.events.schema import Stored
    from harness.events.store import Store

_WATCH_S = 0.2


@click.group()
def command() -> None:
    """Tell guests of a pause beforehand, as Azure's Scheduled Events do."""
    require("events", "harness events")


command.add_command(serve)
command.add_command(rehearse)
command.add_command(schedule)

_event_id = click.argument("event_id", metavar="EVENT", shell_complete=completion.events)


def _store(config_file: Path | None) -> Store:
    """Open the events of this host, or those that hosts share."""
    from harness.events.shared import SharedStore
    from harness.events.store import Store

    config = load_config(config_file, {}).config
    return Store(state_dir(), shared=SharedStore.of(config.events, config.fleet))


def _own_store() -> Store:
    """Open what is this host's alone: what is scheduled."""
    from harness.events.store import Store

    return Store(state_dir())


def _find(store: Store, wanted: str) -> Stored:
    """By the id or its unique beginning. Raises UsageError."""
    found = [one for one in store.events() if one.event.event_id.startswith(wanted.upper())]
    if len(found) != 1 or not wanted:
        how_many = "no event" if not found else f"{len(found)} events"
        raise UsageError(f"{wanted!r} fits {how_many}", hint="harness events list --all")
    return found[0]


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@config_option
@json_option
def list_(everything: bool, config_file: Path | None, as_json: bool) -> None:
    """Show events, and maintenances that are scheduled for later."""
    from harness.events.document import State
    from harness.events.scheduler import scheduled

    live = (State.PLANNED, State.SCHEDULED, State.STARTED)
    with _store(config_file) as store, _own_store() as own:
        events = store.events(*(() if everything else live))
        later = [one for one in scheduled(own) if everything or one.state == "waiting"]
    if as_json:
        print_json(
            {
                "events": [_as_data(one) for one in events],
                "scheduled": [_scheduled(s) for s in later],
            }
        )
        return
    columns = ("event", "state", "type", "guests", "update domain", "not before", "approved by")
    if events:
        _print_table(columns, [_row(one) for one in events])
    else:
        click.echo("no events" if everything else "no events (--all shows those that are over)")
    if later:
        rows = [
            (f"#{s.number}", s.state, _told(s.start_ns), " ".join(s.order.words())) for s in later
        ]
        _print_table(("scheduled", "state", "not before", "harness run"), rows)


def _scheduled(one: Scheduled) -> dict[str, Any]:
    order = {"command": one.order.words(), **vars(one.order)}
    return {**{key: value for key, value in vars(one).items() if key != "order"}, **order}


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column == "event")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    out().print(table)


def _row(one: Stored) -> tuple[str, ...]:
    event = one.event
    return (
        event.event_id,
        one.state.value,
        event.event_type.value,
        ", ".join(event.resources),
        one.update_domain,
        _told(event.not_before_ns),
        one.approved_by or "–",
    )


def _time(at_ns: int | None) -> str:
    from harness.events.document import http_time

    return http_time(at_ns) if at_ns else "–"


def _told(at_ns: int | None) -> str:
    """A time as people read it: local, ISO 8601, and how far away it is."""
    if not at_ns:
        return "–"
    left_s = (at_ns - SYSTEM_CLOCK.realtime_ns()) / NS_PER_S
    away = f"in {spoken(left_s)}" if left_s >= 0 else f"{spoken(-left_s)} ago"
    return f"{datetime.fromtimestamp(at_ns / NS_PER_S).astimezone():%FT%T%z} ({away})"


def _as_data(one: Stored) -> dict[str, Any]:
    event = one.event
    return {
        "event_id": event.event_id,
        "state": one.state.value,
        "event_type": event.event_type.value,
        "resources": list(event.resources),
        "scope": one.scope,
        "host": one.host or None,
        "update_domain": one.update_domain,
        "not_before": _time(event.not_before_ns),
        "not_before_ns": event.not_before_ns,
        "duration_s": event.duration_s,
        "description": event.description,
        "owner": one.owner,
        "approved_by": one.approved_by,
        "announced_ns": one.announced_ns,
        "approved_ns": one.approved_ns,
        "started_ns": one.started_ns,
        "removed_ns": one.removed_ns,
    }


@command.command()
@_event_id
@config_option
@json_option
def show(event_id: str, config_file: Path | None, as_json: bool) -> None:
    """Show one event, and which guests have seen what of it when."""
    with _store(config_file) as store:
        one = _find(store, event_id)
        seen = store.seen(one.scope, one.announced_ns or 0) if one.announced_ns else []
    data = {**_as_data(one), "seen": [vars(sighting) for sighting in seen]}
    if as_json:
        print_json(data)
        return
    for key, value in data.items():
        if key not in ("seen", "not_before"):  # not_before_ns says the latter
            click.echo(printable(f"{key.removesuffix('_ns'):14} {_in_words(key, value)}"))
    for sighting in seen:
        when = _told(sighting.at_ns)
        click.echo(printable(f"seen           {when}  {sighting.name}, {sighting.incarnation}"))


def _in_words(key: str, value: Any) -> str:
    """Return one value of an event as people read it."""
    if key.endswith("_ns"):
        return _told(value)
    if key.endswith("_s"):
        return duration(value) if value > 0 else "not known"
    return ", ".join(value) if isinstance(value, list) else "–" if value is None else str(value)


@command.command()
@_event_id
@config_option
@json_option
def approve(event_id: str, config_file: Path | None, as_json: bool) -> None:
    """Let an event start now, for all its guests."""
    from harness.core.identity import who_am_i

    with _store(config_file) as store:
        one = _find(store, event_id)
        store.approve([one.event.event_id], f"{who_am_i()['user']} at the command line")
        one = _find(store, one.event.event_id)
    if as_json:
        print_json(_as_data(one))
        return
    guests = ", ".join(one.event.resources)
    click.echo(printable(f"event {one.event.event_id} is approved for {guests}"))


def _number(store: Store, text: str) -> int | None:
    """Return the number of a scheduled maintenance; None if ``text`` is an event's id."""
    digits = text.removeprefix("#")
    if digits == text and any(one.event.event_id.startswith(text) for one in store.events()):
        return None
    if digits == text and not text.isdecimal():
        return None
    return int(digits) if digits.isdecimal() else 0


@command.command()
@_event_id
@config_option
@json_option
def cancel(event_id: str, config_file: Path | None, as_json: bool) -> None:
    """Cancel an event that has not started, or a scheduled maintenance by its number."""
    from harness.events.scheduler import move

    with _store(config_file) as store, _own_store() as own:
        number = _number(store, event_id)
        if number is not None:
            if not move(own, number, "waiting", "cancelled"):
                raise UsageError(f"{event_id} is not waiting", hint="harness events list --all")
            _tell(as_json, {"cancelled": number}, f"maintenance #{number} is cancelled")
            return
        one = _find(store, event_id)
        if not store.cancel([one.event.event_id]):
            raise UsageError(f"it is {one.state} and cannot be cancelled any more")
    event_id = one.event.event_id
    _tell(as_json, {"cancelled": event_id}, f"event {event_id} is cancelled")


def _tell(as_json: bool, data: dict[str, Any], line: str) -> None:
    if as_json:
        print_json(data)
    else:
        click.echo(printable(line))


@command.command()
@config_option
@json_option
def watch(config_file: Path | None, as_json: bool) -> None:
    """Show events as they change, until interrupted."""
    from harness.events.document import State

    shown: dict[str, Stored] = {}
    with _store(config_file) as store:
        version = None
        while True:
            now = store.version()
            if now != version:
                version = now
                for one in store.events():
                    before = shown.get(one.event.event_id)
                    over = one.state in (State.ENDED, State.CANCELLED)
                    if one != before and (before or not over):
                        _print_change(one, as_json)
                        shown[one.event.event_id] = one
            SYSTEM_CLOCK.sleep(_WATCH_S)


def _print_change(one: Stored, as_json: bool) -> None:
    import json

    if as_json:
        click.echo(json.dumps(_as_data(one)))
    else:
        stamps = (one.announced_ns, one.approved_ns, one.started_ns, one.removed_ns)
        last_ns = max((stamp for stamp in stamps if stamp), default=None)
        click.echo(printable("  ".join((_told(last_ns), *_row(one)))))
