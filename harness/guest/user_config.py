"""What the user's SSH configuration says of a guest: asked for once, by its name or its address.

Guests of which it says nothing in particular are asked for once, all together: a process for each
of sixty is more work than their logins.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence

from harness.core.errors import ShellUnreachable
from harness.core.timebase import Deadline
from harness.guest import openssh, plain_config
from harness.guest.alike import Alike, is_canonical
from harness.guest.openssh import Effective

#: Differs between any two hosts, or has no part in a login.
_INDIVIDUAL = (
    "host",
    "controlpath",
    "localforward",
    "remoteforward",
    "remotecommand",
    "loglevel",
)


class UserConfig:
    """Asks OpenSSH, and remembers its answers; any thread may call it.

    An instance lives as long as a run does, so that a file that is edited meanwhile does not change
    who is logged in to.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[str, ...], Effective] = {}
        self._said: dict[tuple[str, ...], tuple[Effective | None, Alike | None]] = {}
        """By words: the answer for a host that no configuration names, and which are like it."""
        self._stranger = f"stranger-{secrets.token_hex(8)}"
        self._asking = threading.Lock()

    def about(self, host: str, words: Sequence[str], deadline: Deadline) -> Effective:
        """Return what `ssh WORDS HOST` would go by. Raises ConfigError, DeadlineExpired."""
        key = (host, *words)
        if key not in self._answers:
            self._answers[key] = self._answer(host, words, deadline)
        return self._answers[key]

    def _answer(self, host: str, words: Sequence[str], deadline: Deadline) -> Effective:
        if not openssh.is_installed():
            return plain_config.effective(host, words, deadline)
        stranger = host == self._stranger
        if stranger or is_canonical(host):
            said, alike = self._said_of_strangers(words, deadline)
            if stranger and said is not None:
                return said
            if alike is not None and alike.includes(host):
                return alike.answer_for(host)
        return openssh.effective(host, words, deadline)

    def _said_of_strangers(
        self, words: Sequence[str], deadline: Deadline
    ) -> tuple[Effective | None, Alike | None]:
        key = tuple(words)
        with self._asking:  # once, not by each of sixty guests at the same time
            if key not in self._said:
                said = openssh.effective_with_files(self._stranger, words, deadline)
                self._said[key] = (None, None) if said is None else (said[0], Alike.of(*said))
            return self._said[key]

    def address(self, guest: str, deadline: Deadline) -> str | None:
        """Return the `HostName` that is configured for the guest's name; None: there is none.

        Raises ConfigError, DeadlineExpired.
        """
        if not openssh.is_host(guest):
            return None
        found = self.about(guest, (), deadline).one("hostname")
        return None if found.lower() == guest.lower() else found

    def of_guest(
        self, guest: str, address: str, words: Sequence[str], deadline: Deadline
    ) -> Effective:
        """Return what holds for a guest that is reached at ``address``.

        If the address is what its name stands for, or anything else is configured for its name in
        particular, that is what `ssh GUEST` would go by; else what `ssh ADDRESS` would. Raises
        ConfigError, DeadlineExpired, or ShellUnreachable for what cannot be an address.
        """
        if self.address(guest, deadline) == address:
            return self.about(guest, words, deadline)
        if not openssh.is_host(address):
            raise ShellUnreachable(f"{address!r} is no address", guest=guest)
        if self._is_special(guest, deadline):
            hostname = address.replace("%", "%%")
            return self.about(guest, (*words, "-o", f"HostName={hostname}"), deadline)
        return self.about(address, words, deadline)

    def _is_special(self, guest: str, deadline: Deadline) -> bool:
        """Return True if this name has settings beyond those of every name, as by `Host *`."""
        if not openssh.is_host(guest):
            return False
        other = self.about(self._stranger, (), deadline).values
        own = self.about(guest, (), deadline).values
        keys = (own.keys() | other.keys()) - set(_INDIVIDUAL)
        stranger, name = self._stranger, guest.lower()
        return any(
            [value.lower() for value in own.get(key, ())]
            != [value.lower().replace(stranger, name) for value in other.get(key, ())]
            for key in keys
        )
