"""What the rest of the program may ask of a guest's shell, and how it is opened.

The real shells are :class:`harness.guest.shell.SshShell`, opened by
:class:`harness.guest.connector.SshConnector`, and :class:`harness.guest.agent_shell.AgentShell`;
tests use fakes that pass the same contract suites (``tests/contract/test_shell.py``,
``tests/contract/test_connector.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from harness.core.errors import CommandFailed
from harness.core.settings import SshSection
from harness.core.timebase import Deadline


class Language(StrEnum):
    """What a guest's shell runs."""

    SH = "sh"
    """POSIX ``sh``."""
    POWERSHELL = "powershell"
    """Windows PowerShell 5.1 or later."""


@dataclass(frozen=True)
class Completed:
    """How a command in the guest ended. Output is data: bytes decoded with replacement."""

    returncode: int
    stdout: str
    stderr: str

    def expect_success(self, guest: str) -> None:
        """Raise CommandFailed with the last line that was printed, unless the status is 0."""
        if self.returncode != 0:
            said = (self.stderr or self.stdout).strip().splitlines()[-1:]
            raise CommandFailed(
                f"a command ended with status {self.returncode}: {' '.join(said)}",
                returncode=self.returncode,
                stdout=self.stdout,
                stderr=self.stderr,
                guest=guest,
            )


@dataclass(frozen=True)
class Way:
    """How a connection reached what answers at its other end."""

    address: str
    """What was asked for: an IP address or a name."""
    port: int = 22
    through: tuple[str, ...] = ()
    """Addresses of the jump hosts, first hop first."""
    peer: str | None = None
    """IP address at the other end of this machine's own TCP connection; None: a jump is between."""
    is_here: bool = False
    """Whether ``peer`` is an address of this machine, so that a port of it leads on."""
    host_key: str = ""
    """``SHA256:…`` of the host key that was shown."""
    doubt: str | None = None
    """Why it is not certain whose key that is, where the SSH configuration passes over it."""
    access: str = "ssh"
    """``ssh``, or ``agent``: by the guest agent, through the hypervisor, at no address at all."""

    @property
    def shown(self) -> str:
        """Return the address as people read it: with its port and jump hosts, if special."""
        port = "" if self.port == 22 else f" port {self.port}"
        through = f" through {', '.join(self.through)}" if self.through else ""
        return f"{self.address}{port}{through}"

    @property
    def place(self) -> tuple[str, int, tuple[str, ...]]:
        """Return what two connections to one SSH server have in common."""
        return self.peer or self.address, self.port, self.through


@dataclass(frozen=True)
class HostKey:
    """A public key that a host has proved to hold."""

    kind: str
    """As known_hosts says it, e.g. ``ssh-ed25519``."""
    base64: str
    fingerprint: str
    """``SHA256:…``, as ``ssh-keygen -l`` prints it."""


@dataclass(frozen=True)
class ShownKeys:
    """The host keys that a guest, or a jump host on the way to it, has shown."""

    guest: str
    address: str
    port: int
    name: str
    """What known_hosts calls the host."""
    file: Path | None
    """The file of known hosts that would be added to."""
    keys: tuple[HostKey, ...]
    """All of them, of a host that is not known; else the one that it was known by."""
    known: bool = False
    """Whether a login would accept them as it is."""
    hashed: bool = False
    """Whether names in the file are not to be readable."""
    jump_host: str | None = None
    """The jump host that they are of; None: they are the guest's own."""


class LineStream(Protocol):
    """A long-lived process in the guest that answers one line to each line."""

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        """Send ``line`` (no newline), wait for one line back.

        Returns ``(sent_ns, answer, received_ns)``: the host's CLOCK_MONOTONIC right before the
        bytes are handed to the transport and right after the answer's newline has arrived.
        Raises ShellUnreachable, DeadlineExpired, or ProbeError when the process has ended.
        """

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        """Wait for one line without asking: ``(answer, received_ns)``, as ``ask`` raises."""

    def close(self) -> None:
        """End the process. Idempotent, never raises."""


class Python(Protocol):
    """A python3 that runs in the guest already, and is asked over its line to us."""

    def evaluate(self, source: str, deadline: Deadline) -> str:
        """Return what ``source``, built from constants, left in ``said``.

        Raises ProbeError for an error in the guest, ShellUnreachable, DeadlineExpired.
        """

    def start(self, source: str, deadline: Deadline) -> LineStream:
        """Start a line server in a child of it; one at a time, which the next one ends."""


@dataclass(frozen=True)
class Looked:
    """What was to be seen, line by line, and how the look at it ended."""

    lines: tuple[str, ...]
    returncode: int


class Looks(Protocol):
    """A shell that runs in the guest already, and is asked over its line to us."""

    def look(self, what: str, deadline: Deadline) -> Looked:
        """Look at one of what :mod:`harness.guest.in_sh` knows.

        Raises ProbeError for an answer without end, ShellUnreachable, DeadlineExpired.
        """


class GuestShell(Protocol):
    """One open connection to one guest. Every operation ends by its deadline."""

    guest: str
    way: Way
    speaks: Language
    """``SH`` until the guest says otherwise; :func:`harness.guest.facts.gather` finds out."""

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        """Run ``command``, a text in the language that it ``speaks``, whatever the login shell is.

        ``command`` is built from constants or with :func:`shlex.quote`. What the login
        shell says around it is no part of the answer. Messages are in English. With ``check`` a
        non-zero status raises CommandFailed. Raises ShellUnreachable, DeadlineExpired.
        """

    def stream(self, command: str, deadline: Deadline) -> LineStream:
        """Start ``command``, likewise, as a long-lived line server."""

    def close(self) -> None:
        """Close the connection. Idempotent, never raises."""


class Connector(Protocol):
    """How a guest's shell is opened. Any thread may call it; handed down from ``harness.api``."""

    def configured_address(self, guest: str) -> str | None:
        """Return the address that the user's own SSH configuration gives for ``guest``, if any.

        Raises ConfigError if that configuration cannot be read.
        """

    def open(
        self, guest: str, address: str, common: SshSection, own: SshSection, deadline: Deadline
    ) -> GuestShell:
        """Return a new, authenticated connection to ``guest`` at ``address``; the caller closes it.

        ``common`` is ``[ssh]``, ``own`` the guest's section laid over it. Raises ShellUnreachable,
        HostKeyRejected, ConfigError or DeadlineExpired.
        """

    def host_keys(
        self, guest: str, address: str, common: SshSection, own: SshSection, deadline: Deadline
    ) -> ShownKeys:
        """Return the host keys of ``guest``, or of the first jump host that is not known; no login.

        Raises HostKeyRejected for a key that has changed, is revoked or is not the configured one,
        ShellUnreachable, ConfigError or DeadlineExpired.
        """

    def trust(self, shown: ShownKeys) -> None:
        """Add keys that ``host_keys`` returned to their file, so that a login accepts them.

        Raises InfrastructureError if the file cannot be written.
        """
