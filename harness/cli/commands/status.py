"""``harness status``: what goes on on this host at this moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import api
from harness.cli.commands.common import (
    connection_options,
    json_option,
    load_config,
    out,
    print_json,
)
from harness.core.durations import spoken as in_words
from harness.core.paths import state_dir
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK
from harness.host.lifecycle import STARTING
from harness.results.report.spoken import counted, duration, printable
from harness.results.unfinished import how_it_ended

if TYPE_CHECKING:
    from harness.cli.status import Status
    from harness.results.in_progress import RunNow

_AGAIN_S = 1.0


@click.command(
    epilog="""\b
Examples:
  harness status                  who holds the host, what is paused, what is coming
  harness status --watch          the same, looked at every second; Ctrl-C ends it
  harness status --json | jq '.running[].held'
"""
)
@click.option("--watch", is_flag=True, help="Look again every second until Ctrl-C.")
@click.option("--runs", type=click.IntRange(0, 1000), default=5, help="So many past runs (5).")
@connection_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config_file: Path | None,
    uri: str | None,
    watch: bool,
    runs: int,
    as_json: bool,
) -> None:
    """Show who holds this host, what is paused since when, what is scheduled, and the last runs.

    Nothing is changed, and no guest is logged in to. Exit code 3 if something needs a person: a run
    that ended unexpectedly, a paused guest that no run holds, or what could not be looked at.
    """
    from harness.cli.status import take_status

    config = load_config(config_file, {"uri": uri}).config
    backend = api.Backend.real()
    if watch:
        _watch(lambda: take_status(config, state_dir(), runs, backend), as_json=as_json)
        return
    found = take_status(config, state_dir(), runs, backend)
    if as_json:
        print_json(found.as_data())
    else:
        click.echo("\n".join(lines_of(found)))
    ctx.exit(3 if found.needs_a_person else 0)


def _watch(look: Callable[[], Status], *, as_json: bool) -> None:
    """Until Ctrl-C, which is how a person ends it and no failure."""
    from rich.live import Live
    from rich.text import Text

    try:
        if as_json:
            while True:
                click.echo(json.dumps(look().as_data(), default=str))
                SYSTEM_CLOCK.sleep(_AGAIN_S)
        with Live(console=out(), auto_refresh=False) as live:
            while True:
                live.update(Text("\n".join(lines_of(look()))), refresh=True)
                SYSTEM_CLOCK.sleep(_AGAIN_S)
    except KeyboardInterrupt:
        return


def lines_of(found: Status) -> Iterator[str]:
    """Yield what a person reads; names in it are data."""
    for line in _lines(found):
        yield printable(line)


def _lines(found: Status) -> Iterator[str]:
    yield _first_line(found)
    for run in found.going_on:
        yield f"run {run.folder.run_id} goes on: {_of_run(found, run)}"
        yield from _held(found, run)
    for run in found.dead:
        yield f"run {run.folder.run_id} {how_it_ended(run.folder)}"
        yield from _held(found, run)
    for run_id in found.unreadable:
        yield f"run {run_id} ended unexpectedly and its journal cannot be read: harness recover"
    yield from _paused(found)
    for one in found.coming:
        guests = ", ".join(one.guests) or "the guests of the configuration"
        state = f"{one.state}, approved by {one.approved_by}" if one.approved_by else one.state
        yield f"{one.what} ({state}) for {guests}: {_when(found, one.not_before_ns)}"
    if not found.going_on and not found.dead and not found.paused:
        yield "no guest is paused" if not found.problems else "no run is known to hold a guest"
    for problem in found.problems:
        yield f"not looked at: {problem}"
    for past in found.past:
        guests = counted(past.guests, "guest")
        ago = "" if past.finished_s_ago is None else f", {in_words(past.finished_s_ago)} ago"
        paused = f", paused {duration(past.pause_window_s)}" if past.pause_window_s else ""
        yield f"{past.outcome.upper():<5} {past.run_id}: {guests}{paused}{ago}"
    if not found.past:
        yield "no run yet"


def _first_line(found: Status) -> str:
    if found.holder is not None:
        return f"{found.uri}: {found.holder.describe(found.now_ns)}"
    if not found.reached:
        return f"{found.uri}: libvirt was not reached; no run holds this host"
    return f"{found.uri} is free"


def _paused(found: Status) -> Iterator[str]:
    if found.paused:
        yield f"paused, and held by no run: {', '.join(found.paused)}"
    for name, what_helps in found.starting.items():
        yield f"{name} is paused ({STARTING}): {what_helps}"


def _of_run(found: Status, run: RunNow) -> str:
    if not run.pid:
        return "its journal is empty still"
    where = f", update domain {run.domain}" if run.domain else ""
    since = in_words(max(0.0, found.ago_s(run.started_ns)))
    return f"update {run.update or '?'}{where}, for {since} (pid {run.pid})"


def _held(found: Status, run: RunNow) -> Iterator[str]:
    for guest in run.held:
        if guest.since_ns is None:
            yield f"  {guest.name}: {guest.custody}"
            continue
        paused_s = found.for_s(guest.since_ns)
        since = _clock(found.now_ns - round(paused_s * NS_PER_S))
        said = f"  {guest.name}: {guest.custody} for {paused_s:.1f} s, since {since}"
        if guest.until_ns is not None:
            left_s = -found.for_s(guest.until_ns)
            until = _clock(found.now_ns + round(left_s * NS_PER_S))
            over = f" ({-left_s:.1f} s ago)" if left_s < 0 else f" (in {left_s:.1f} s)"
            said += f"; to run again by {until}{over}"
        yield said


def _when(found: Status, at_ns: int) -> str:
    if not at_ns:
        return "at once"
    left_s = -found.ago_s(at_ns)
    away = f"in {in_words(left_s)}" if left_s >= 0 else f"{in_words(-left_s)} ago"
    return f"not before {datetime.fromtimestamp(at_ns / NS_PER_S).astimezone():%FT%T%z} ({away})"


def _clock(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns / NS_PER_S).astimezone():%T}"
