"""Which keys are offered to a guest, in OpenSSH's order; which were passed over, and why."""

from __future__ import annotations

import base64
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.fanout import fan_out
from harness.core.timebase import Deadline
from harness.guest.certificates import CERTIFIED, subject_of
from harness.guest.lean_paramiko import paramiko
from harness.guest.ssh_settings import RSA_ALGORITHMS, SshSettings

_OTHERS_MAY = 0o077
_NEW_FORMAT = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_NEW_MAGIC = b"openssh-key-v1\0"


@dataclass(frozen=True)
class Identity:
    """A key that may be offered, and how a person knows it."""

    name: str
    key: paramiko.PKey

    @property
    def refusal(self) -> str | None:
        """Why it could not be used, where that was not the server's doing."""
        return getattr(self.key, "refusal", None)


@dataclass
class Identities:
    """The keys to offer, one after the other; ``passed_over`` says why the others are not."""

    offered: list[Identity] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


class _Agent(paramiko.agent.AgentSSH):
    """paramiko's own knows the agent of $SSH_AUTH_SOCK only."""

    def __init__(self, path: str) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            self._connect(connection)  # type: ignore[attr-defined]  # the stubs lack it
        except BaseException:
            connection.close()
            raise

    def held(self) -> dict[bytes, _HeldKey]:
        """The keys that it holds, by their public halves."""
        return {key.blob: _HeldKey(self, key.blob, key.comment) for key in self.get_keys()}

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]  # the stubs lack it


class _HeldKey(paramiko.AgentKey):
    """A key that an agent holds; one that it does not sign with ends no connection."""

    refusal: str | None = None

    def __init__(self, agent: _Agent, blob: bytes, comment: str) -> None:
        super().__init__(agent, blob, comment)
        self._holder = agent
        if self.name.endswith(CERTIFIED):  # paramiko would send only the key in it
            self.load_certificate(paramiko.Message(blob))

    def another(self) -> _HeldKey:
        """The same key, to be given a certificate."""
        return _HeldKey(self._holder, self.blob, self.comment)

    def sign_ssh_data(self, data: Any, algorithm: str | None = None) -> Any:
        """Sign; what the agent refuses is no signature, and the server goes on to the next key."""
        try:
            return super().sign_ssh_data(data, algorithm)
        except (OSError, paramiko.SSHException) as error:
            self.refusal = f"the SSH agent does not sign with it ({error})"
            return b""


@contextmanager
def identities(settings: SshSettings, deadline: Deadline) -> Iterator[Identities]:
    """Hand out the keys to offer; the agent answers until the block ends.

    First what `CertificateFile` names, then the agent's keys that the configuration names, then its
    others unless `IdentitiesOnly` forbids that, then those in files. Raises DeadlineExpired for an
    agent that hangs.
    """
    found = Identities()
    agent = _open_agent(settings, found, deadline)
    try:
        held = agent.held() if agent else {}
        for path in settings.certificate_files:
            _add_certificate(path, settings, held, found)
        files = []
        for path in settings.identity_files:
            key = held.pop(_public_blob(path) or b"", None)
            if key is None:
                files.append(path)
            else:
                found.offered.append(Identity(f"{path} (agent)", key))
        for key in held.values():
            if settings.identities_only:
                found.passed_over.append(f"{_agent_name(key)}: IdentitiesOnly")
            else:
                found.offered.append(Identity(_agent_name(key), key))
        for path in files:
            _add_file(path, settings, found)
        _leave_out_what_is_not_accepted(settings, found)
        yield found
    finally:
        if agent is not None:
            agent.close()


def _open_agent(settings: SshSettings, found: Identities, deadline: Deadline) -> _Agent | None:
    path = settings.agent
    if path is None:
        return None
    what = "asking the SSH agent"  # it may hang, as one forwarded over a dead connection does
    answer = fan_out({what: lambda: _Agent(path)}, deadline, what=what)[what]
    if isinstance(answer.error, OSError | paramiko.SSHException):
        found.passed_over.append(f"SSH agent at {path}: {answer.error}")
        return None
    return answer.get()


def _agent_name(key: _HeldKey) -> str:
    return f"agent key {key.comment or key.fingerprint}"


def _add_certificate(
    path: Path, settings: SshSettings, held: Mapping[bytes, _HeldKey], found: Identities
) -> None:
    """A certificate from a file of its own, with its private key from an agent or a file."""
    try:
        subject = subject_of(path.read_bytes())
        owner = next((one for one in settings.identity_files if _public_blob(one) == subject), None)
        if subject in held:
            key: paramiko.PKey = held[subject].another()
        elif owner is not None and _fault(owner) is None:
            key = _private(owner)
        else:
            raise ValueError("no identity file and no agent holds its private key")
        key.load_certificate(str(path))
    except (OSError, ValueError, paramiko.SSHException) as error:
        found.passed_over.append(f"{path}: {_reason(error)}")
    else:
        found.offered.append(Identity(str(path), key))


def _add_file(path: Path, settings: SshSettings, found: Identities) -> None:
    """The key in a file, then its certificate, if there is one beside it."""
    try:
        why = _fault(path)
        if why is not None:
            raise ValueError(why)
        plain, certified = _private(path), _private(path)
    except FileNotFoundError:
        if path not in settings.optional_files:
            found.passed_over.append(f"{path}: no such file")
    except (OSError, ValueError, paramiko.SSHException) as error:
        found.passed_over.append(f"{path}: {_reason(error)}")
    else:
        plain.public_blob = None
        found.offered.append(Identity(str(path), plain))
        if certified.public_blob is not None and not settings.certificate_files:
            found.offered.append(Identity(f"{path}-cert.pub", certified))


def _leave_out_what_is_not_accepted(settings: SshSettings, found: Identities) -> None:
    allowed = settings.algorithms.get("pubkeys")
    least = settings.least_rsa_bits
    offered, found.offered = found.offered, []
    for identity in offered:
        key = identity.key
        kind = key.public_blob.key_type if key.public_blob is not None else key.get_name()
        names = {kind.replace("ssh-rsa", name) for name in RSA_ALGORITHMS}
        if allowed is not None and not any(name in allowed for name in names):
            found.passed_over.append(f"{identity.name}: PubkeyAcceptedAlgorithms")
        elif "ssh-rsa" in kind and key.get_bits() < least:
            found.passed_over.append(f"{identity.name}: shorter than RequiredRSASize {least}")
        else:
            found.offered.append(identity)


def _private(path: Path) -> paramiko.PKey:
    """The private key in a file, with its certificate. Raises OSError, SSHException, ValueError."""
    try:
        return paramiko.PKey.from_path(path)
    except (OSError, paramiko.SSHException):
        raise
    except TypeError as error:  # by cryptography, where a password is missing
        raise ValueError("it has a passphrase, and the SSH agent does not hold it") from error
    except paramiko.pkey.UnknownKeyType as error:
        raise ValueError(f"keys of its kind are not supported ({error.key_type})") from error
    except Exception as error:
        # paramiko and cryptography name no others; a file of whatever content raises many
        raise ValueError(f"it is no private key: {str(error).splitlines()[:1]}") from error


def _fault(path: Path) -> str | None:
    """Why the private key in this file is not used. Raises OSError if it is not there."""
    about = path.stat()
    kind = (_public_blob(path) or b"")[4:].partition(b"\0")[0].decode(errors="replace")
    if kind.startswith(("ssh-dss", "sk-")):
        return f"{kind} keys in files are not supported"
    if about.st_uid == os.getuid() and stat.S_IMODE(about.st_mode) & _OTHERS_MAY:
        return f"others may read it (mode {stat.S_IMODE(about.st_mode):04o})"
    return None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _public_blob(path: Path) -> bytes | None:
    """The public half of an identity file: in it, or in the `.pub` beside it."""
    for file in (path, path.with_name(f"{path.name}.pub")):
        with suppress(OSError, ValueError, paramiko.SSHException):
            content = file.read_bytes()
            if content.startswith(_NEW_FORMAT):
                return _public_part(content)
            if not content.startswith(b"-----") and len(words := content.split()) > 1:
                return base64.b64decode(words[1], validate=True)
    return None


def _public_part(content: bytes) -> bytes:
    """The public key of OpenSSH's own format, which no passphrase hides. Raises ValueError."""
    lines = content.split(b"-----")[2]
    data = base64.b64decode(lines)
    if not data.startswith(_NEW_MAGIC):
        raise ValueError("no such format")
    message = paramiko.Message(data[len(_NEW_MAGIC) :])
    for _ in ("cipher", "key derivation", "its options"):
        message.get_binary()
    message.get_int()  # one key
    return bytes(message.get_binary())
