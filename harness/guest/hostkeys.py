"""Is this the guest it should be? Asked before any credential is offered."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import HostKeyRejected, HostKeyUnknown
from harness.core.pasteable import command
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.guest import openssh
from harness.guest.certificates import CERTIFIED, authority_of, fault_of
from harness.guest.known_lines import known_lines
from harness.guest.lean_paramiko import paramiko
from harness.guest.ssh_settings import RSA_ALGORITHMS, SshSettings

_KRL_MAGIC = b"SSHKRL\n\0"


@dataclass
class Known:
    """What the files of known hosts say of one name: public keys as blobs, and their types."""

    name: str = ""
    files: list[Path] = field(default_factory=list)
    """Those that have a key of this name."""
    keys: dict[bytes, str] = field(default_factory=dict)
    authorities: dict[bytes, str] = field(default_factory=dict)
    revoked: dict[bytes, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownHosts:
    """What is known of one guest, name by name."""

    names: tuple[Known, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def first(self) -> Known:
        """The name that counts most and of which anything is known."""
        return next((one for one in self.names if one.keys or one.authorities), Known())


def look_up(settings: SshSettings, deadline: Deadline) -> KnownHosts:
    """Return every host key and authority under which this guest is known.

    Raises ConfigError, DeadlineExpired.
    """
    names, unreadable = [], {}
    for name in settings.known_names:
        known = Known(name)
        places = {"": known.keys, "@cert-authority": known.authorities, "@revoked": known.revoked}
        for file in settings.known_hosts:
            try:
                lines = known_lines(file, name, deadline)
            except OSError as error:
                unreadable[file] = f"{file} cannot be read: {error.strerror}"
                continue
            entries = list(_entries(lines))
            known.files += [file] if any(not marker for marker, _, _ in entries) else []
            for marker, kind, blob in entries:
                if marker in places:
                    places[marker][blob] = kind
        names.append(known)
    return KnownHosts(tuple(names), tuple(unreadable.values()))


def _entries(lines: list[str]) -> Iterator[tuple[str, str, bytes]]:
    """``(marker, type, key)`` of each line; like ssh we pass over what cannot be read."""
    for line in lines:
        words = line.split()
        marker = words.pop(0) if line.startswith("@") else ""
        if len(words) >= 3:
            with suppress(ValueError):
                yield marker, words[1], base64.b64decode(words[2], validate=True)


def preferred(known: KnownHosts, usable: tuple[str, ...]) -> tuple[str, ...]:
    """Order the algorithms ``usable`` for host keys so that a known kind is asked for first.

    Else a host that is known by one kind looks like a changed one if it has another as well.
    """
    first = known.first
    kinds = set(first.keys.values())
    wanted = {one for one in RSA_ALGORITHMS if "ssh-rsa" in kinds} | kinds
    certified = [one for one in usable if one.endswith(CERTIFIED) and first.authorities]
    plain = [one for one in usable if one in wanted]
    others = [one for one in usable if one not in certified and one not in plain]
    # Without an authority a certificate is a key like any other; it is of no use to ask for one.
    others.sort(key=lambda one: one.endswith(CERTIFIED))
    return (*certified, *plain, *others)


class HostKeyCheck:
    """Judges the key that a guest has proved to hold."""

    def __init__(
        self,
        guest: str,
        address: str,
        settings: SshSettings,
        known: KnownHosts,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._guest, self._address = guest, address
        self._settings, self._known, self._clock = settings, known, clock

    def judge(self, key: paramiko.PKey, deadline: Deadline, *, by_loopback: bool) -> str | None:
        """Return a doubt that the configuration wants to be passed over, None: there is none.

        Raises HostKeyRejected unless the key is the pinned one, a known one, certified by a known
        authority, or the configuration asks for none of that; HostKeyUnknown if no key is known at
        all. Raises DeadlineExpired.
        """
        settings = self._settings
        if settings.host_key is not None:
            if key.fingerprint != settings.host_key:
                raise HostKeyRejected(
                    f"its host key is {key.fingerprint}, not {settings.host_key} as configured",
                    guest=self._guest,
                    hint="another machine may answer; if it was reinstalled, update ssh.host_key",
                )
            return None
        self._refuse_weak_or_revoked(key, deadline)
        if by_loopback and settings.trust_loopback:
            return None
        for known in self._known.names:
            if self._vouches(known, key):
                return None
            if key.get_name() in known.keys.values():
                return self._not_known(key, changed=True)
        return self._not_known(key, changed=False)

    def _refuse_weak_or_revoked(self, key: paramiko.PKey, deadline: Deadline) -> None:
        least = self._settings.least_rsa_bits
        if key.get_name() == "ssh-rsa" and key.get_bits() < least:
            raise self._rejected(f"has {key.get_bits()} bits, fewer than RequiredRSASize {least}")
        blobs = {key.asbytes()}
        if key.public_blob is not None:
            with suppress(ValueError):
                blobs.add(authority_of(key.public_blob.key_type, key.public_blob.key_blob)[1])
        if any(blob in known.revoked for known in self._known.names for blob in blobs):
            raise self._rejected("is marked as @revoked in known_hosts")
        file = self._settings.revoked_host_keys
        if file is not None and _is_revoked(file, key, blobs, deadline):
            raise self._rejected(f"is revoked by {file}, or that cannot be read")

    def _vouches(self, known: Known, key: paramiko.PKey) -> bool:
        if key.public_blob is not None and known.authorities:
            try:
                blob = key.public_blob
                certificate, authority = authority_of(blob.key_type, blob.key_blob)
            except ValueError as error:
                raise self._rejected(f"has a certificate that cannot be checked: {error}") from None
            if authority in known.authorities:
                allowed = self._settings.algorithms.get("authorities", ())
                name = self._settings.certified_name
                if fault := fault_of(certificate, name, allowed, self._clock):
                    raise self._rejected(f"has a certificate, but {fault}")
                return True
        return key.asbytes() in known.keys

    def _not_known(self, key: paramiko.PKey, *, changed: bool) -> str:
        strict = self._settings.strict
        what = "has changed" if changed or self._known.first.keys else "is unknown"
        if strict == "no" or (strict == "accept-new" and not changed):
            return f"its host key {what} ({key.fingerprint}): StrictHostKeyChecking is {strict}"
        changed = what == "has changed"
        now = "; it is now" if changed else ":"
        raise (HostKeyRejected if changed else HostKeyUnknown)(
            f"its host key at {self._address} {what}{now} {key.fingerprint}",
            guest=self._guest,
            hint=self._way_out(changed=changed),
        )

    def _rejected(self, why: str) -> HostKeyRejected:
        return HostKeyRejected(f"its host key at {self._address} {why}", guest=self._guest)

    def _way_out(self, *, changed: bool) -> str:
        settings = self._settings
        trouble = "".join(f"; {one}" for one in self._known.unreadable)
        trouble += "".join(f"; {keyword} is not asked by harness" for keyword in settings.not_asked)
        learn = command("harness", "trust", self._guest)
        if changed:
            places = [(file, one.name) for one in self._known.names for file in one.files]
            forget = "; ".join(
                command("ssh-keygen", "-f", str(file), "-R", name) for file, name in places
            )
            return f"if you know why: {forget}; then: {learn}{trouble}"
        return f"compare the fingerprint on its console, then: {learn}{trouble}"


def _is_revoked(file: Path, key: paramiko.PKey, blobs: set[bytes], deadline: Deadline) -> bool:
    """Whether `RevokedHostKeys` names the key or its authority; so it is if it cannot be read."""
    try:
        listed = file.read_bytes()
    except OSError:
        return True
    if not listed.startswith(_KRL_MAGIC):  # a list of public keys, one a line
        lines = (line.split() for line in listed.decode(errors="replace").splitlines())
        return any(base64.b64encode(blob).decode() in words for words in lines for blob in blobs)
    if not openssh.is_installed():
        return True
    blob = key.public_blob
    text = f"{key.get_name()} {key.get_base64()}"
    if blob is not None:
        text = f"{blob.key_type} {base64.b64encode(blob.key_blob).decode()}"
    return openssh.is_revoked(file, text, deadline)
