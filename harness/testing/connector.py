"""A :class:`harness.guest.protocol.Connector` that opens shells to guests in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.core.errors import HostKeyRejected, HostKeyUnknown, ShellUnreachable
from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.guest.protocol import HostKey, ShownKeys
from harness.testing.guest import FakeGuest
from harness.testing.guest_shell import InMemoryShell


class FakeConnector:
    """Opens shells to guests in memory, by name, whatever their address is.

    ``before[name]`` is called before that guest is logged in to and may raise, wait or meddle;
    ``opened`` lists every shell that was opened, ``logins`` every (name, address) tried;
    ``configured`` holds the addresses that the user's own SSH configuration gives. Guests in
    ``strangers`` have a host key that is not known, and in ``changed`` another one than is known.
    """

    def __init__(self, guests: Mapping[str, FakeGuest]) -> None:
        self.guests = dict(guests)
        self.before: dict[str, Callable[[], None]] = {}
        self.opened: list[InMemoryShell] = []
        self.logins: list[tuple[str, str]] = []
        self.configured: dict[str, str] = {}
        self.strangers: set[str] = set()
        self.changed: set[str] = set()
        self.trusted: list[ShownKeys] = []
        self.lets_in: dict[str, str] = {}
        """Guest → the only user who may log in; one that is not here lets any user in."""

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
        self._expect_known(guest, address)
        user = own.user or common.user
        if self.lets_in.get(guest, user) != user:
            raise ShellUnreachable(f"logging in as {user}: the login was refused", guest=guest)
        with inside.answering(f"connecting to {address}", deadline):
            shell = InMemoryShell(inside, address)
        self.opened.append(shell)  # beside those of other guests, which log in at the same time
        return shell

    def _expect_known(self, guest: str, address: str) -> None:
        if guest in self.changed:
            raise HostKeyRejected(f"its host key at {address} has changed", guest=guest)
        if guest in self.strangers:
            raise HostKeyUnknown(f"its host key at {address} is unknown", guest=guest)

    def host_keys(
        self, guest: str, address: str, common: SshSection, own: SshSection, deadline: Deadline
    ) -> ShownKeys:
        """Return the guest's one key. Raises ShellUnreachable, HostKeyRejected."""
        self.before.get(guest, lambda: None)()
        inside = self.guests.get(guest)
        if inside is None:
            raise ShellUnreachable(f"connecting to {address}: no such guest", guest=guest)
        with inside.answering(f"connecting to {address}", deadline):
            key = HostKey("ssh-ed25519", "AAAA", inside.host_key)
        if guest in self.changed:
            self._expect_known(guest, address)
        return ShownKeys(
            guest,
            address,
            own.port or common.port or 22,
            name=guest,
            file=Path("known_hosts"),
            keys=(key,),
            known=guest not in self.strangers,
        )

    def trust(self, shown: ShownKeys) -> None:
        """Know the guest from now on."""
        self.trusted.append(shown)
        self.strangers.discard(shown.guest)
