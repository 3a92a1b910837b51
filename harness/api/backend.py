"""How the host and its guests are reached: by libvirt and SSH, or by what a test hands in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.settings import Config
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.guest.protocol import Connector
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.guard import GuardianProcess

if TYPE_CHECKING:  # a plan should not have to load what only a run needs
    from harness.maintenance.run import Guarding


@dataclass(frozen=True)
class Backend:
    """How the host and its guests are reached; tests hand fakes in (``harness.testing``)."""

    connect: Callable[[Config], AbstractContextManager[Hypervisor]]
    """Opens a connection to the hypervisor for the time of a ``with``; raises HarnessError."""
    connector: Connector
    """Opens the guests' shells."""
    clock: Clock = SYSTEM_CLOCK
    guardian: Guarding = GuardianProcess
    """Starts the second process, which resumes guests if this one dies."""

    @classmethod
    def real(cls) -> Backend:
        """Return libvirt at the configuration's URI, guests by SSH, and this machine's clock."""
        from harness.guest.connector import SshConnector

        return cls(_libvirt, SshConnector())


@contextmanager
def _libvirt(config: Config) -> Iterator[Hypervisor]:
    from harness.host.driver import LibvirtHypervisor

    hypervisor = LibvirtHypervisor.open(config.uri, Deadline.after(config.prepare_timeout_s))
    try:
        yield hypervisor
    finally:
        hypervisor.close()
