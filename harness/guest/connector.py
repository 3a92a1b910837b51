"""How a guest's shell is really opened: over SSH (:class:`harness.guest.protocol.Connector`).

Paramiko is loaded where it is used: a plan never needs it, and recover resumes guests before it
logs in.
"""

from __future__ import annotations

import logging

from harness.core.settings import SshSection
from harness.core.timebase import Deadline, Stopwatch
from harness.guest.access import Access
from harness.guest.protocol import GuestShell, ShownKeys

#: To ask OpenSSH for an address; a name server may be asked in turn.
_LOOK_S = 15.0

_log = logging.getLogger(__name__)


class SshConnector:
    """Opens SSH connections as harness.toml, the user's SSH configuration and the defaults say."""

    def __init__(self) -> None:
        self._access = Access()

    def configured_address(self, guest: str) -> str | None:
        """Return the ``HostName`` that the SSH configuration gives for the guest's name, if any."""
        return self._access.configured_address(guest, Deadline.after(_LOOK_S))

    def open(
        self, guest: str, address: str, common: SshSection, own: SshSection, deadline: Deadline
    ) -> GuestShell:
        """Connect, check the host key, log in."""
        from harness.guest.shell import SshShell  # loads paramiko

        settings = self._access.settings(guest, address, common, own, deadline)
        watch = Stopwatch(deadline.clock)
        shell = SshShell.open(guest, address, settings, deadline)
        _log.info("guest %r: logged in at %s in %.3f s", guest, address, watch.elapsed_s())
        return shell

    def host_keys(
        self, guest: str, address: str, common: SshSection, own: SshSection, deadline: Deadline
    ) -> ShownKeys:
        """Ask for the host keys, of a jump host first; no login to an unknown machine."""
        from harness.guest.host_key_scan import scan  # loads paramiko

        settings = self._access.settings(guest, address, common, own, deadline)
        return scan(guest, address, settings, deadline)

    def trust(self, shown: ShownKeys) -> None:
        """Add the keys to known_hosts."""
        from harness.guest.known_hosts_file import add  # loads paramiko

        add(shown)
