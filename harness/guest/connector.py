"""How a guest's shell is really opened: over SSH (:class:`harness.guest.protocol.Connector`)."""

from __future__ import annotations

from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.guest.access import SshSettings
from harness.guest.protocol import GuestShell
from harness.guest.shell import SshShell


class SshConnector:
    """Opens SSH connections as harness.toml, ``~/.ssh/config`` and the defaults say."""

    def configured_address(self, guest: str) -> str | None:
        """Return the ``HostName`` that ``~/.ssh/config`` gives for the guest's name, if any."""
        return SshSettings.configured_address(guest)

    def open(
        self, guest: str, address: str, common: SshSection, own: SshSection, deadline: Deadline
    ) -> GuestShell:
        """Connect, check the host key, log in."""
        settings = SshSettings.resolve(guest, address, common, own)
        return SshShell.open(guest, address, settings, deadline)
