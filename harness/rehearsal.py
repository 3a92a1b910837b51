"""One maintenance for programs of ours: connect, plan, carry out; nothing is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import Config
from harness.host.protocol import Hypervisor
from harness.progress import Observer, silent
from harness.timebase import Deadline
from harness.updates.protocol import HostUpdate, Scope, UpdateSettings
from harness.updates.registry import make

if TYPE_CHECKING:
    from harness.run import Finished

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


def make_update(config: Config) -> HostUpdate:
    """The update that the configuration asks for. Raises ConfigError."""
    section = config.update
    return make(
        UpdateSettings(
            kind=section.kind,
            command=section.command,
            expected_s=section.expected_s,
            scope=Scope(section.scope) if section.scope else None,
            preserves_memory=section.preserves_memory,
            duration_s=section.duration_s,
            verify=section.verify,
            rollback=section.rollback,
        )
    )


def rehearse(
    config: Config,
    guests: Sequence[str],
    *,
    state_dir: Path,
    observer: Observer = silent,
    connect: Connect = connected,
) -> Finished:
    """Carry out one maintenance of ``guests`` (none: those of the configuration).

    Raises a HarnessError for what fails before there is a run; whatever ends the run later is in
    the result.
    """
    from harness.run import run, survey

    update = make_update(config)
    with connect(config) as hypervisor:
        plan = survey(config, guests, hypervisor, update)
        return run(config, plan, update, hypervisor, state_dir=state_dir, observer=observer)
