"""One maintenance for programs of ours: connect, plan, carry out; nothing is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.extras import require
from harness.core.settings import Config
from harness.core.timebase import Deadline
from harness.guest.protocol import Connector
from harness.host.protocol import Hypervisor
from harness.maintenance.notice import Notice
from harness.maintenance.plan import Plan, make_plan
from harness.maintenance.progress import Observer, silent
from harness.updates.command import check_program
from harness.updates.expected import learn
from harness.updates.protocol import HostUpdate, Site
from harness.updates.registry import make

if TYPE_CHECKING:
    from harness.maintenance.run import Finished

Connect = Callable[[Config], AbstractContextManager[Hypervisor]]


@contextmanager
def connected(config: Config) -> Iterator[Hypervisor]:
    """A connection to the host's libvirt for the time of a ``with``. Raises HarnessError."""
    # Here, not above: `harness --help` should not have to load libvirt.
    from harness.host.driver import LibvirtHypervisor

    hypervisor = LibvirtHypervisor.open(config.uri, Deadline.after(config.prepare_timeout_s))
    try:
        yield hypervisor
    finally:
        hypervisor.close()


def ssh() -> Connector:
    """Return what opens the shells of real guests: SSH, as harness.toml and the user say."""
    from harness.guest.connector import SshConnector  # loads paramiko, which no --help should

    return SshConnector()


def make_update(config: Config, folder: Path) -> HostUpdate:
    """The update that the configuration asks for. Raises ConfigError.

    Where nothing says how long it should take, earlier runs in ``folder`` (the state folder) do.
    """
    section = config.update
    earlier = learn(folder, section) if section.expected_s is None else None
    return make(section, Site(config.uri, folder, earlier))


def survey(
    config: Config, names: Sequence[str], hypervisor: Hypervisor, update: HostUpdate
) -> Plan:
    """Ask the hypervisor about the guests and plan their maintenance; changes nothing.

    ``names``: the guests to maintain; empty means those of the configuration. Raises UsageError
    or HypervisorError for everything that can be known to be wrong by now.
    """
    update.check()
    for own in config.checks.own:
        check_program(own.command, f"checks.own[{own.name}].command")
    deadline = Deadline.after(config.prepare_timeout_s)
    wanted = list(names) or [guest.name for guest in config.guest]
    chosen = [hypervisor.find(name, deadline) for name in wanted]
    uuids = {guest.uuid for guest in chosen}
    others = [guest for guest in hypervisor.guests(deadline) if guest.uuid not in uuids]
    return make_plan(config, chosen, update, others=others)


@contextmanager
def announcement(
    config: Config,
    update: HostUpdate,
    hypervisor: Hypervisor,
    *,
    state_dir: Path,
    config_file: Path | None = None,
    not_before_ns: int = 0,
) -> Iterator[Notice | None]:
    """How guests are told, with a server that answers them; None if they are not to be told.

    ``config_file`` is for the server, ``not_before_ns`` the earliest pause in ns since 1970.
    """
    settings = config.events
    if settings.notice_s is None:
        yield None
        return
    require("events", "telling guests of a pause")
    from harness.events.announcer import EventNotice
    from harness.events.service import served
    from harness.events.store import Store

    where = ["--address", settings.address, "--port", str(settings.port)]
    file = ["--config", str(config_file)] if config_file else []
    with (
        Store(state_dir) as store,
        served(state_dir, [*file, "--uri", config.uri, *where]) as service,
    ):
        yield EventNotice(
            store,
            config,
            hypervisor,
            duration_s=update.expected_s,
            not_before_ns=not_before_ns,
            keep_served=service.ensure,
        )


def rehearse(
    config: Config,
    guests: Sequence[str],
    *,
    state_dir: Path,
    config_file: Path | None = None,
    label: str = "run",
    observer: Observer = silent,
    connect: Connect = connected,
    connector: Connector | None = None,
) -> Finished:
    """Carry out one maintenance of ``guests`` (none: those of the configuration).

    Raises a HarnessError for what fails before there is a run; whatever ends the run later is in
    the result.
    """
    from harness.maintenance.run import run

    update = make_update(config, state_dir)
    with connect(config) as hypervisor:
        plan = survey(config, guests, hypervisor, update)
        told = announcement(
            config, update, hypervisor, state_dir=state_dir, config_file=config_file
        )
        with told as notice:
            return run(
                config,
                plan,
                update,
                hypervisor,
                connector or ssh(),
                state_dir=state_dir,
                observer=observer,
                notice=notice,
                label=label,
            )
