"""Is this the guest it should be? Asked before any credential is offered."""

from __future__ import annotations

from collections.abc import Iterator

import paramiko

from harness.errors import ConfigError, HostKeyRejected
from harness.guest.access import DEFAULT_PORT, SshSettings

#: A key type in known_hosts → the algorithms a server may sign with it.
_RSA_ALGORITHMS = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")


def known_keys(settings: SshSettings) -> list[paramiko.PKey]:
    """Every host key under which this guest is known. Raises ConfigError."""
    return [key for entry in _entries(settings) for key in entry.values()]


def _entries(settings: SshSettings) -> Iterator[dict[str, paramiko.PKey]]:
    for file in settings.known_hosts:
        if not file.exists():
            continue
        try:
            hosts = paramiko.HostKeys(str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot be read: {error}", file=file) from error
        for name in dict.fromkeys(settings.known_names):
            shown = name if settings.port == DEFAULT_PORT else f"[{name}]:{settings.port}"
            entry = hosts.lookup(shown)
            if entry is not None:
                yield dict(entry)


def prefer_known(transport: paramiko.Transport, keys: list[paramiko.PKey]) -> None:
    """Ask the server for a kind of key that we know; else a known host looks like a changed one."""
    types = {key.get_name() for key in keys}
    wanted = {a for a in _RSA_ALGORITHMS if "ssh-rsa" in types} | types
    options = transport.get_security_options()
    usable = tuple(algorithm for algorithm in options.key_types if algorithm in wanted)
    if usable:
        options.key_types = usable


def check(
    guest: str, address: str, key: paramiko.PKey, known: list[paramiko.PKey], settings: SshSettings
) -> None:
    """Raises HostKeyRejected unless ``key`` is the pinned one or a known one."""
    fingerprint = key.fingerprint
    if settings.host_key is not None:
        if fingerprint != settings.host_key:
            raise HostKeyRejected(
                f"its host key is {fingerprint}, not {settings.host_key} as configured",
                guest=guest,
                hint="somebody else may be answering; if it was reinstalled, update ssh.host_key",
            )
        return
    if any(key == candidate for candidate in known):
        return
    file = settings.known_hosts[0]
    name = settings.known_names[-1]
    where = name if settings.port == DEFAULT_PORT else f"[{name}]:{settings.port}"
    if known:
        raise HostKeyRejected(
            f"its host key at {address} has changed; it is now {fingerprint}",
            guest=guest,
            hint=f"if you know why: ssh-keygen -f {file} -R '{where}', then trust the new one",
        )
    port = "" if settings.port == DEFAULT_PORT else f"-p {settings.port} "
    raise HostKeyRejected(
        f"its host key at {address} is unknown: {fingerprint}",
        guest=guest,
        hint=f"compare the fingerprint on its console, then: ssh-keyscan {port}{address} >> {file}",
    )
