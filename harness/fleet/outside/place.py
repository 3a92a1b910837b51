"""Which host a libvirt URI names, and whether its run has to be carried out there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from harness.core.errors import ConfigError
from harness.core.settings import SshSection, UpdateSection

#: Update kinds whose run ends with its kernel: another machine cannot carry them out by libvirt.
_CARRIED_OUT_THERE = ("kernel",)
_BY_SSH = ("ssh", "libssh", "libssh2")
_CHECKED = {"no_verify": ("", "0"), "no_sanity": ("", "0")}


@dataclass(frozen=True)
class Place:
    """A host that is reached by SSH."""

    uri: str
    """As this machine names it."""
    local_uri: str
    """As it names itself: ``qemu:///system``."""
    host: str
    ssh: SshSection
    """What the URI says of the way there; what it does not say, the SSH configuration does."""


def is_carried_out_there(uri: str, updates: Sequence[UpdateSection]) -> bool:
    """Return True if the host is another machine and has to carry out these updates itself."""
    elsewhere = bool(urlsplit(uri).netloc)
    return elsewhere and any(one.kind in _CARRIED_OUT_THERE for one in updates)


def place_of(uri: str, updates: Sequence[UpdateSection]) -> Place:
    """Return the host that a URI of libvirt's names. Raises ConfigError."""
    parts = urlsplit(uri)
    driver, _, transport = parts.scheme.partition("+")
    kind = updates[0].kind
    if transport not in _BY_SSH or not parts.hostname:
        raise ConfigError(
            f"a run of kind {kind} is carried out by the host itself, which is reached by SSH",
            key="uri",
            hint=f"{driver}+ssh://root@{parts.hostname or 'HOST'}{parts.path}",
        )
    if len(updates) > 1:
        raise ConfigError(
            f"an update of kind {kind} among others is not started from another machine",
            key="update",
            hint=f"run harness on {parts.hostname}",
        )
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{uri}: {error}", key="uri") from error
    said = dict(parse_qsl(parts.query))
    for name, harmless in _CHECKED.items():
        if said.get(name, "") not in harmless:
            raise ConfigError(
                f"{name} would have the host's key not checked; it is, before a command is given",
                key="uri",
                hint=f"ssh {parts.hostname} once, and compare its key",
            )
    own: dict[str, Any] = {
        "user": parts.username,
        "port": port,
        "identity_file": _file(said.get("keyfile")),
        "known_hosts": _file(said.get("known_hosts")),
    }
    section = SshSection(**{key: one for key, one in own.items() if one is not None})
    return Place(uri, f"{driver}://{parts.path}", parts.hostname, section)


def _file(path: str | None) -> Path | None:
    return Path(path) if path else None


def words_for(place: Place) -> Sequence[str]:
    """Return how a person logs in there, as words."""
    user = f"{place.ssh.user}@" if place.ssh.user else ""
    port = ("-p", str(place.ssh.port)) if place.ssh.port else ()
    return ("ssh", *port, f"{user}{place.host}")
