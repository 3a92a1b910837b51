"""A :class:`harness.guest.protocol.Connector` that opens shells to guests in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.core.errors import ShellUnreachable
from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.testing.guest import FakeGuest
from harness.testing.guest_shell import InMemoryShell


class FakeConnector:
    """Opens shells to guests in memory, by name, whatever their address is.

    ``before[name]`` is called before that guest is logged in to and may raise, wait or meddle;
    ``opened`` lists every shell that was opened, ``logins`` every (name, address) tried;
    ``configured`` holds the addresses that the user's own SSH configuration gives.
    """

    def __init__(self, guests: Mapping[str, FakeGuest]) -> None:
        self.guests = dict(guests)
        self.before: dict[str, Callable[[], None]] = {}
        self.opened: list[InMemoryShell] = []
        self.logins: list[tuple[str, str]] = []
        self.configured: dict[str, str] = {}

    def configured_address(self, guest: str) -> str | None:
        """Return what ``configured`` says."""
        return self.configured.get(guest)

    def open(
        self, guest: str, address: str, common: SshSection, own: SshSection, deadline: Deadline
    ) -> InMemoryShell:
        """Open a shell. Raises ShellUnreachable for a guest that is unknown or unreachable."""
        self.logins.append((guest, address))
        self.before.get(guest, lambda: None)()
        inside = self.guests.get(guest)
        if inside is None:
            raise ShellUnreachable(f"connecting to {address}: no such guest", guest=guest)
        with inside.answering(f"connecting to {address}", deadline):
            self.opened.append(InMemoryShell(inside, address))
        return self.opened[-1]
