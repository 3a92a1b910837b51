"""How to log in to a guest: harness.toml over the user's SSH configuration over defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core.errors import ConfigError
from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.guest.jumps import last_hop
from harness.guest.openssh import Effective
from harness.guest.ssh_settings import (
    Jump,
    SshSettings,
    known_hosts_of,
    names_with_port,
    settings_of,
)
from harness.guest.user_config import UserConfig


@dataclass(frozen=True)
class _Given:
    """What harness.toml says: the guest's own section, else ``[ssh]``."""

    common: SshSection
    own: SshSection

    def first(self, key: str) -> Any:
        for section in (self.own, self.common):
            if key in section.model_fields_set and getattr(section, key) is not None:
                return getattr(section, key)
        return None

    def file(self, key: str) -> tuple[Path, ...]:
        path = self.first(key)
        return (path.expanduser(),) if path else ()

    def words(self, guest: str) -> tuple[str, ...]:
        """What `ssh` would be called with to mean the same."""
        user, port, jump = self.first("user"), self.first("port"), self.first("proxy_jump")
        words: tuple[str, ...] = ("-l", str(user)) if user else ()
        words += ("-p", str(port)) if port else ()
        if not jump:
            return words
        jump = re.sub(r"\s*,\s*", ",", jump.strip())
        if re.search(r"[\s\"'#\\\x00]", jump):
            raise ConfigError(f"proxy_jump: {jump!r} is no [user@]host[:port]", guest=guest)
        return (*words, "-o", f"ProxyJump={jump}")


@contextmanager
def _naming(guest: str) -> Iterator[None]:
    """Say of which guest a ConfigError is that was raised for a file."""
    try:
        yield
    except ConfigError as error:
        error.guest = error.guest or guest
        raise


class Access:
    """Finds out how guests are logged in to; for one run, from any thread."""

    def __init__(self) -> None:
        self._config = UserConfig()

    def configured_address(self, guest: str, deadline: Deadline) -> str | None:
        """Return the `HostName` that the user's configuration gives for the guest's name, if any.

        Raises ConfigError or DeadlineExpired.
        """
        with _naming(guest):
            return self._config.address(guest, deadline)

    def settings(
        self, guest: str, address: str, common: SshSection, own: SshSection, deadline: Deadline
    ) -> SshSettings:
        """Merge the guest's ``ssh``, ``[ssh]`` and the user's SSH configuration.

        Raises ConfigError for what OpenSSH refuses and for what is not supported here,
        DeadlineExpired.
        """
        with _naming(guest):
            return self._settings(guest, address, _Given(common, own), deadline)

    def _settings(self, guest: str, address: str, given: _Given, deadline: Deadline) -> SshSettings:
        of = self._config.of_guest(guest, address, given.words(guest), deadline)
        found = settings_of(of, guest, deadline)
        names = found.known_names
        if given.file("known_hosts") or self._config.address(guest, deadline) != address:
            # The file is one for harness, or the address is libvirt's: the guest's name counts too.
            names = tuple(dict.fromkeys((*names_with_port(guest.lower(), found.port), *names)))
        if identity := given.file("identity_file"):
            found = replace(found, identity_files=identity, optional_files=frozenset())
        if known_hosts := given.file("known_hosts"):  # who names a file wants it to be asked
            found = replace(found, known_hosts=known_hosts, strict="yes")
        return replace(
            found,
            known_names=names,
            host_key=given.first("host_key"),
            connect_timeout_s=given.first("connect_timeout_s") or found.connect_timeout_s,
            jump=self._jump(guest, of, given, deadline, ()),
        )

    def _jump(
        self, guest: str, of: Effective, given: _Given, deadline: Deadline, seen: tuple[str, ...]
    ) -> Jump | None:
        """The last host of `ProxyJump`, reached through those before it.

        What `ssh` would start for it is another `ssh`, with a configuration of its own.
        """
        hop = last_hop(of.one("proxyjump"), guest)
        if hop is None:
            return None
        step = " ".join((*hop.words, hop.host))
        if step in seen:
            raise ConfigError(f"ProxyJump: {hop.host} needs {hop.host} to jump", guest=guest)
        there = self._config.about(hop.host, hop.words, deadline)
        found = settings_of(there, guest, deadline)
        if known_hosts := given.file("known_hosts"):
            found = replace(found, known_hosts=(*known_hosts, *known_hosts_of(there)))
        found = replace(
            found,
            # That of the guests may do here too: a jump host has no section of its own.
            identity_files=(*given.file("identity_file"), *found.identity_files),
            connect_timeout_s=given.first("connect_timeout_s") or found.connect_timeout_s,
            jump=self._jump(guest, there, given, deadline, (*seen, step)),
        )
        return Jump(hop.host, there.one("hostname"), found)
