"""Is this the guest it should be? Asked before any credential is offered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from harness.core.errors import ConfigError, HostKeyRejected
from harness.guest.access import DEFAULT_PORT, SshSettings

#: A key type in known_hosts → the algorithms a server may sign with it.
_RSA_ALGORITHMS = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")


def known_keys(settings: SshSettings) -> list[paramiko.PKey]:
    """Every host key under which this guest is known. Raises ConfigError."""
    found: dict[str, list[paramiko.PKey]] = {"": [], "@revoked": []}
    plain = settings.port == DEFAULT_PORT
    ours = [name if plain else f"[{name}]:{settings.port}" for name in settings.known_names]
    for file in settings.known_hosts:
        for marker, names, key in _entries(file):
            if marker in found and any(_is(name, own) for name in names for own in ours):
                found[marker].append(key)
    return [key for key in found[""] if key not in found["@revoked"]]


def _entries(file: Path) -> Iterator[tuple[str, list[str], paramiko.PKey]]:
    """``(marker, names, key)`` of each line; like ssh we pass over what cannot be read.

    Not ``paramiko.HostKeys``: markers make it fail, and of several keys of a kind it knows one.
    """
    try:
        lines = file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"cannot be read: {error}", file=file) from error
    for line in lines:
        words = line.split()
        marker = words.pop(0) if line.startswith("@") else ""
        entry = None
        with suppress(paramiko.SSHException, InvalidHostKey, ValueError):
            entry = HostKeyEntry.from_line(" ".join(words))
        if entry is not None and entry.hostnames and entry.key:
            yield marker, entry.hostnames, entry.key


def _is(known: str, name: str) -> bool:
    if not known.startswith("|1|"):
        return known == name
    with suppress(ValueError, AssertionError):  # what looks like a hash and is none
        return paramiko.HostKeys.hash_host(name, known) == known
    return False


def prefer_known(transport: paramiko.Transport, keys: list[paramiko.PKey]) -> None:
    """Ask the server for a kind of key that we know; else a known host looks like a changed one."""
    types = {key.get_name() for key in keys}
    wanted = {a for a in _RSA_ALGORITHMS if "ssh-rsa" in types} | types
    options = transport.get_security_options()
    usable = tuple(algorithm for algorithm in options.key_types if algorithm in wanted)
    if usable:
        others = tuple(name for name in options.key_types if name not in usable)
        options.key_types = usable + others


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
