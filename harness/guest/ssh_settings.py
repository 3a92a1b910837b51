"""What one SSH connection needs to be opened, and OpenSSH's configuration as such settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import ConfigError
from harness.core.timebase import Deadline
from harness.guest.openssh import USER_CONFIG, Effective, expanded
from harness.guest.proxy_command import words_of

DEFAULT_PORT = 22
#: The algorithms that an `ssh-rsa` key signs by.
RSA_ALGORITHMS = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")
_CONNECT_TIMEOUT_S = 15
#: OpenSSH's own identity files; that one of them is not there is nothing to tell.
_DEFAULT_IDENTITY = re.compile(r"~/\.ssh/id_\w+")
#: What would change whether a login succeeds, or its user, and is not done here; the way out.
_NOT_DONE = {
    "ProxyUseFdpass": "use a ProxyCommand that carries the bytes itself",
    "BindInterface": "use BindAddress",
    "PKCS11Provider": "let the SSH agent hold the key (ssh-add -s)",
}
#: Other ways to know a host: named where its key is refused, for ssh might know it.
_NOT_ASKED = (
    "KnownHostsCommand",
    "VerifyHostKeyDNS",
)
#: Lists of algorithms that a connection may use, by the names that paramiko gives them.
_ALGORITHMS = {
    "kex": "kexalgorithms",
    "ciphers": "ciphers",
    "macs": "macs",
    "keys": "hostkeyalgorithms",
    "pubkeys": "pubkeyacceptedalgorithms",
    "authorities": "casignaturealgorithms",
}
_OFF = ("", "no", "none", "false", "off")


@dataclass(frozen=True)
class SshSettings:
    """Everything that is needed to open one connection, and to verify the machine at its end."""

    user: str
    port: int = DEFAULT_PORT
    identity_files: tuple[Path, ...] = ()
    optional_files: frozenset[Path] = frozenset()
    """Those identity files that no configuration names."""
    certificate_files: tuple[Path, ...] = ()
    identities_only: bool = False
    """The agent offers no key but those of ``identity_files``."""
    agent: str | None = None
    """The socket of the SSH agent; None: there is none."""
    known_hosts: tuple[Path, ...] = ()
    hash_known_hosts: bool = False
    """`HashKnownHosts`: a name that is added there is not to be read from it."""
    known_names: tuple[str, ...] = ()
    """Names under which the host key may be known, the one that counts most first."""
    certified_name: str = ""
    """The name that a host certificate must be valid for."""
    strict: str = "yes"
    """`StrictHostKeyChecking`: ``yes``, ``accept-new`` or ``no``."""
    trust_loopback: bool = False
    """`NoHostAuthenticationForLocalhost`."""
    revoked_host_keys: Path | None = None
    host_key: str | None = None
    """``SHA256:…``: the host key must have exactly this fingerprint."""
    not_asked: tuple[str, ...] = ()
    """Keywords in force by which `ssh` might know the host, and harness does not."""
    algorithms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kind → those that may be used; a kind that is missing is not restricted."""
    least_rsa_bits: int = 1024
    address_family: str = "any"
    bind_address: str | None = None
    proxy_command: tuple[str, ...] = ()
    """A program, and its arguments, that is the connection; empty: TCP, or a jump."""
    jump: Jump | None = None
    connect_timeout_s: float = _CONNECT_TIMEOUT_S


@dataclass(frozen=True)
class Jump:
    """The host through which another one is reached."""

    host: str
    address: str
    settings: SshSettings


def settings_of(of: Effective, guest: str, deadline: Deadline) -> SshSettings:
    """Return OpenSSH's answer as settings, without the jump.

    Raises ConfigError that names what is not supported here, DeadlineExpired.
    """
    _expect_supported(of, guest)
    port = _number(of, "port", DEFAULT_PORT, guest)
    hostname, alias = of.one("hostname"), of.one("hostkeyalias")
    files = {value: expanded(value, of, deadline) for value in of.every("identityfile")}
    return SshSettings(
        user=of.one("user"),
        port=port,
        identity_files=tuple(dict.fromkeys(files.values())),
        optional_files=frozenset(
            path for value, path in files.items() if _DEFAULT_IDENTITY.fullmatch(value)
        ),
        certificate_files=tuple(
            expanded(value, of, deadline) for value in of.every("certificatefile")
        ),
        identities_only=of.one("identitiesonly") == "yes",
        agent=_agent(of.one("identityagent")),
        known_hosts=known_hosts_of(of),
        hash_known_hosts=of.one("hashknownhosts") == "yes",
        known_names=(alias,) if alias else names_with_port(hostname, port),
        certified_name=alias or hostname,
        strict=_strictness(of.one("stricthostkeychecking")),
        trust_loopback=of.one("nohostauthenticationforlocalhost") == "yes",
        revoked_host_keys=next(
            (expanded(value, of, deadline) for value in of.every("revokedhostkeys")), None
        ),
        not_asked=tuple(key for key in _NOT_ASKED if of.one(key.lower()) not in _OFF),
        algorithms={
            kind: tuple(of.one(key).split(",")) for kind, key in _ALGORITHMS.items() if of.one(key)
        },
        least_rsa_bits=_number(of, "requiredrsasize", 1024, guest),
        address_family=of.one("addressfamily", "any"),
        proxy_command=_proxy_command(of, hostname, guest),
        bind_address=next(iter(of.every("bindaddress")), None),
        connect_timeout_s=_number(of, "connecttimeout", _CONNECT_TIMEOUT_S, guest)
        or _CONNECT_TIMEOUT_S,
    )


def _proxy_command(of: Effective, hostname: str, guest: str) -> tuple[str, ...]:
    command = next(iter(of.every("proxycommand")), None)
    tokens = {"%": "%", "h": hostname, "n": of.host, "p": of.one("port"), "r": of.one("user")}
    return () if command is None else words_of(command, tokens, guest)


def names_with_port(name: str, port: int) -> tuple[str, ...]:
    """Return what known_hosts calls a host at a port: like ssh, else as if it were port 22."""
    return (name,) if port == DEFAULT_PORT else (f"[{name}]:{port}", name)


def known_hosts_of(of: Effective) -> tuple[Path, ...]:
    """Return the files of known hosts, the user's first."""
    return tuple(
        path
        for key in ("userknownhostsfile", "globalknownhostsfile")
        for path in _paths(of.one(key))
    )


def _paths(words: str) -> Iterator[Path]:
    """Take apart what `ssh -G` prints: paths with blanks between them, and maybe within."""
    left = words.split(" ") if words.lower() != "none" else []
    while left:
        joined = (
            count for count in range(len(left), 1, -1) if Path(" ".join(left[:count])).exists()
        )
        count = next(joined, 1)
        yield Path(" ".join(left[:count])).expanduser()
        del left[:count]


def _expect_supported(of: Effective, guest: str) -> None:
    for keyword, instead in _NOT_DONE.items():
        if of.one(keyword.lower()).lower() not in _OFF:
            raise ConfigError(
                f"{keyword} is not supported", file=USER_CONFIG, guest=guest, hint=instead
            )
    methods = of.one("preferredauthentications", "publickey").split(",")
    if of.one("pubkeyauthentication") in ("no", "false") or "publickey" not in methods:
        raise ConfigError(
            "PubkeyAuthentication or PreferredAuthentications rules out login by key",
            file=USER_CONFIG,
            guest=guest,
            hint="harness logs in by key only",
        )


def _number(of: Effective, key: str, fallback: int, guest: str) -> int:
    value = next(iter(of.every(key)), str(fallback))
    if not (value.isdecimal() and value.isascii()):
        raise ConfigError(f"{key}: {value!r} is no number", file=USER_CONFIG, guest=guest)
    return int(value)


def _strictness(value: str) -> str:
    if value == "accept-new":
        return value
    return "no" if value in ("no", "off", "false") else "yes"  # there is no person to ask


def _agent(value: str) -> str | None:
    """The socket that `IdentityAgent` names, by itself or by a variable."""
    if value == "none":
        return None
    if value in ("", "SSH_AUTH_SOCK"):
        value = "$SSH_AUTH_SOCK"
    return os.environ.get(value[1:]) or None if value.startswith("$") else value
