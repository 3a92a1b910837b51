"""``harness events serve`` and ``rehearse``: guests are answered."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.commands import completion
from harness.cli.commands.common import F, connection_options, duration_option, load_config, say
from harness.cli.commands.parameters import OneOf
from harness.core.config import Loaded
from harness.core.errors import UsageError
from harness.core.paths import state_dir
from harness.core.settings import Config
from harness.core.timebase import Deadline
from harness.results.report.words import printable

if TYPE_CHECKING:
    from harness.events.callers import Directory, Known
    from harness.events.membership import Scopes
    from harness.events.schema import Member

#: libvirt is asked who a stranger is; the stranger waits for it.
_ASK_S = 5.0

_SERVER: tuple[Callable[[Any], Any], ...] = (
    click.option("--address", help="Where to listen.  [default: 169.254.169.254]"),
    click.option("--port", type=int, help="[default: 80]"),
    click.option(
        "--anywhere", is_flag=True, help="Listen even where others than guests can reach it."
    ),
    click.option(
        "--identify",
        "identified",
        multiple=True,
        metavar="ADDRESS=GUEST[@SET[/DOMAIN]]",
        help="Say who an address is, instead of asking libvirt and the bridge. Repeatable.",
    ),
    click.option(
        "--metrics",
        metavar="ADDRESS:PORT",
        help="Answer /metrics there, on loopback only: figures of runs for a collector.",
    ),
    click.option("--rate", default=5, show_default=True, help="Requests a second; 0: no limit."),
)


def _server_options(function: F) -> F:
    for option in reversed(_SERVER):
        function = option(function)
    return connection_options(function)


def _load(config_file: Path | None, uri: str | None, options: dict[str, Any]) -> Loaded:
    flags = {
        "uri": uri,
        "events.address": options["address"],
        "events.port": options["port"],
        "metrics.listen": options["metrics"],
    }
    return load_config(config_file, flags)


@click.command(
    epilog="""\b
Examples:
  harness events serve                                        for the guests of libvirt
  harness events serve --address 127.0.0.1 --port 8080 \\
      --identify 127.0.0.1=web1@web/0                         for a client on this machine
"""
)
@_server_options
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--until-eof", is_flag=True, hidden=True)
def serve(
    config_file: Path | None,
    uri: str | None,
    ready_fd: int | None,
    until_eof: bool,
    **options: Any,
) -> None:
    """Answer guests on their metadata address; carry out what is scheduled. Ends with Ctrl-C."""
    from harness.events.logs import ACCESS_LOG
    from harness.events.scheduler import Caretaker
    from harness.events.server import serve as serve_until_told
    from harness.events.server import sole_server
    from harness.events.shared import SharedStore
    from harness.events.sockets import listen

    loaded = _load(config_file, uri, options)
    settings = loaded.config.events
    shared = SharedStore.of(loaded.config.events, loaded.config.fleet)
    access_log = state_dir() / ACCESS_LOG

    def ready() -> None:
        port = sockets[0].getsockname()[1]
        say(f"which guest asks what: {access_log}")
        say(f"answering guests on {settings.address}:{port}")
        if ready_fd is not None:
            os.write(ready_fd, b"!")
            os.close(ready_fd)

    with ExitStack() as stack:
        office = stack.enter_context(sole_server(state_dir()))
        sockets = listen(settings.address, settings.port, anywhere=options["anywhere"])
        directory = _directory(loaded.config, options["identified"])

        def undo() -> None:
            if office.take():  # else it is the next server's
                getattr(directory, "close", lambda: None)()

        stack.callback(undo)
        _serve_metrics(stack, loaded.config.metrics.listen)
        file = loaded.file and loaded.file.absolute()
        care = stack.enter_context(closing(Caretaker(state_dir(), file, tell=say, shared=shared)))
        learn = getattr(directory, "learn", lambda: None)

        def beside() -> None:
            care.tick()
            learn()

        serve_until_told(
            state_dir(),
            sockets,
            directory,
            office,
            shared=shared,
            rate=options["rate"],
            ready=ready,
            beside=beside,
            until_eof_of=sys.stdin.fileno() if until_eof else None,
        )


def _serve_metrics(stack: ExitStack, listen: str | None) -> None:
    if listen is None:
        return
    from harness.events.metrics_server import metrics_served, parse
    from harness.results.report.openmetrics import CONTENT_TYPE, Collected

    where = parse(listen)
    collected = Collected(state_dir())
    port = stack.enter_context(metrics_served(where, collected.text, CONTENT_TYPE))
    say(f"metrics on http://{listen.rpartition(':')[0]}:{port}/metrics")


def _directory(config: Config, identified: tuple[str, ...]) -> Directory:
    """Who is who; every guest that is known by now is enrolled."""
    from harness.api import Backend
    from harness.events.callers import (
        BridgeDirectory,
        Caller,
        FixedDirectory,
        Kernel,
        Known,
    )
    from harness.events.membership import Scopes, memberships
    from harness.events.shared import SharedStore
    from harness.events.store import Store

    shared = SharedStore.of(config.events, config.fleet)
    scopes = Scopes.of(config.availability_set, shared)
    if identified:
        members = dict(_identified(text, scopes) for text in identified)
        with Store(state_dir(), shared=shared) as store:
            store.enrol(members.values())
        return FixedDirectory({a: Caller(m.uuid, m.name) for a, m in members.items()})

    connect = Backend.real().connect

    def ask() -> Known:
        deadline = Deadline.after(_ASK_S)
        with connect(config) as host:
            guests, leases = host.guests(deadline), host.leases(deadline)
        with Store(state_dir(), shared=shared) as store:
            store.enrol(memberships(config.guest, guests, scopes))
        by_hand = {
            address: guest.macs[0]
            for guest in guests
            if guest.macs and (address := config.for_guest(guest.name, guest.uuid).address)
        }
        return Known(guests, {**leases, **by_hand})

    ask()  # a libvirt that does not answer is better known now
    directory = BridgeDirectory(ask, Kernel(state_dir() / "events-pins.json"))
    directory.learn()
    return directory


def _identified(text: str, scopes: Scopes) -> tuple[str, Member]:
    from harness.events.schema import Member

    address, found, guest = text.partition("=")
    name, _, place = guest.partition("@")
    availability_set, _, domain = place.partition("/")
    if not (address and found and name):
        raise UsageError(f"--identify: {text!r} is not ADDRESS=GUEST[@SET[/DOMAIN]]")
    uuid = f"fixed-{name}"
    return address, Member(uuid, name, scopes.name(availability_set or None, uuid), domain)


def _scenarios() -> Iterable[str]:
    from harness.events.scenarios import SCENARIOS

    return SCENARIOS


def _faults() -> Iterable[str]:
    from harness.events.faults import KINDS

    return KINDS


@click.command(
    epilog="""\b
Examples:
  harness events rehearse live-migration --guest web1 --time-scale 60
  harness events rehearse host-maintenance --guest web1 --time-scale 60 --impact 10s
  harness events rehearse host-maintenance --guest web1 --fault slow:5s
"""
)
@click.argument("scenario", type=OneOf(_scenarios, what="scenario", metavar="SCENARIO"))
@click.option(
    "--guest",
    required=True,
    shell_complete=completion.guests,
    help="The guest that is notified, with its availability set where the scenario hits all of it.",
)
@click.option(
    "--time-scale",
    default=1.0,
    show_default=True,
    help="Notices are this many times shorter; Started lasts as long as ever.",
)
@duration_option(
    "--impact", "impact_s", "How long Started lasts.  [default: as in the scenario, 5s to 5m]"
)
@click.option(
    "--fault",
    type=OneOf(
        _faults, what="fault", metavar="[slow[:DURATION]|empty|text|410|429|500]", suffix=":"
    ),
    help="Answer the guest wrongly once.",
)
@_server_options
def rehearse(
    scenario: str,
    guest: str,
    time_scale: float,
    impact_s: float | None,
    fault: str | None,
    config_file: Path | None,
    uri: str | None,
    **options: Any,
) -> None:
    """Play a scenario to guests, so that their clients can be tested; no guest is paused.

    SCENARIO: live-migration, host-maintenance, cancelled, hardware-failure or short-notice.
    """
    from harness.core.signals import Interruption
    from harness.events.faults import check_kind
    from harness.events.scenarios import Rehearsal
    from harness.events.service import served
    from harness.events.shared import SharedStore
    from harness.events.store import Store

    try:
        wrong = check_kind(fault) if fault is not None else None
    except ValueError as error:
        raise UsageError(f"--fault: {error}") from error
    if not time_scale > 0:
        raise UsageError("--time-scale: must be more than nothing")
    loaded = _load(config_file, uri, options)
    with (
        Store(
            state_dir(), shared=SharedStore.of(loaded.config.events, loaded.config.fleet)
        ) as store,
        served(state_dir(), _again(loaded, options)) as service,
        Interruption() as interruption,
    ):
        service.ensure()
        say(service.said() or f"the server that runs for {state_dir()} answers guests")
        rehearsal = Rehearsal(store, interruption, _say, time_scale=time_scale, impact_s=impact_s)
        rehearsal.play(scenario, guest, wrong)


def _say(line: str) -> None:
    click.echo(printable(line))


def _again(loaded: Loaded, options: dict[str, Any]) -> list[str]:
    """The arguments of a server like the one that was asked for."""
    settings = loaded.config.events
    config = ["--config", str(loaded.file)] if loaded.file else []
    where = ["--uri", loaded.config.uri, "--address", settings.address]
    limits = ["--port", str(settings.port), "--rate", str(options["rate"])]
    who = [word for text in options["identified"] for word in ("--identify", text)]
    return [*config, *where, *limits, *who, *(["--anywhere"] if options["anywhere"] else [])]
