"""How to log in to a guest: harness.toml over ``~/.ssh/config`` over defaults."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from harness.core.errors import ConfigError
from harness.core.settings import SshSection

DEFAULT_PORT = 22
USER_CONFIG = Path("~/.ssh/config")
USER_KNOWN_HOSTS = Path("~/.ssh/known_hosts")
SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")


@dataclass(frozen=True)
class SshSettings:
    """Everything that is needed to open one connection, and to know whom one talks to."""

    user: str
    port: int = DEFAULT_PORT
    identity_files: tuple[Path, ...] = ()
    """Tried first; then the agent's keys, then the usual ``~/.ssh/id_*``."""
    known_hosts: tuple[Path, ...] = ()
    known_names: tuple[str, ...] = ()
    """Under which of these names the host key may be known."""
    host_key: str | None = None
    """``SHA256:…``: the host key must have exactly this fingerprint."""
    proxy_jump: str | None = None
    """``[user@]host[:port]``, several with commas, as in ``ssh -J``."""
    connect_timeout_s: float = 15.0

    @classmethod
    def resolve(cls, guest: str, address: str, common: SshSection, own: SshSection) -> SshSettings:
        """Merge the guest's ``ssh``, ``[ssh]`` and the user's ``~/.ssh/config``.

        The last is looked up by guest name, then by address. Raises ConfigError for what paramiko
        cannot do.
        """
        user_config = _lookup(guest) or _lookup(address)
        if user_config.get("proxycommand"):  # paramiko says None for "none"
            raise ConfigError(
                "ProxyCommand is not supported", file=USER_CONFIG, guest=guest, hint="use ProxyJump"
            )

        def first(key: str, fallback: Any = None) -> Any:
            for section in (own, common):
                if key in section.model_fields_set and getattr(section, key) is not None:
                    return getattr(section, key)
            return fallback

        try:
            port = int(first("port", user_config.get("port", DEFAULT_PORT)))
        except ValueError as error:
            raise ConfigError(f"Port: {error}", file=USER_CONFIG, guest=guest) from error
        identity = first("identity_file")
        known_hosts = first("known_hosts")
        default_hosts = (USER_KNOWN_HOSTS.expanduser(), SYSTEM_KNOWN_HOSTS)
        return cls(
            user=first("user", user_config.get("user") or getpass.getuser()),
            port=port,
            identity_files=(identity,)
            if identity
            else tuple(Path(name) for name in user_config.get("identityfile", ())),
            known_hosts=(known_hosts,)
            if known_hosts
            else _paths(user_config.get("userknownhostsfile")) or default_hosts,
            known_names=(user_config.get("hostkeyalias", guest), guest, address),
            host_key=first("host_key"),
            proxy_jump=first("proxy_jump", user_config.get("proxyjump")),
            connect_timeout_s=first("connect_timeout_s", common.connect_timeout_s),
        )

    @staticmethod
    def configured_address(guest: str) -> str | None:
        """The ``HostName`` that ``~/.ssh/config`` gives for the guest's name, if it does."""
        hostname = _lookup(guest).get("hostname")
        return None if hostname in (None, guest) else str(hostname)


def _paths(words: str | None) -> tuple[Path, ...]:
    return tuple(Path(word).expanduser() for word in (words or "").split())


def _lookup(name: str) -> dict[str, Any]:
    """What the user's configuration says about ``name``; empty if it says nothing special."""
    file = USER_CONFIG.expanduser()
    if not file.is_file():
        return {}
    try:
        found = dict(paramiko.SSHConfig.from_path(str(file)).lookup(name))
    except Exception as error:
        raise ConfigError(f"cannot be used: {error}", file=file) from error
    return {} if found == {"hostname": name} else found
