"""What the rest of the program may ask of a guest's shell, and how it is opened.

The real ones are :class:`harness.guest.shell.SshShell` and
:class:`harness.guest.connector.SshConnector`; tests use fakes that pass the same contract suites
(``tests/contract/test_shell.py``, ``tests/contract/test_connector.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.core.settings import SshSection
from harness.core.timebase import Deadline


@dataclass(frozen=True)
class Completed:
    """How a command in the guest ended. Output is data: bytes decoded with replacement."""

    returncode: int
    stdout: str
    stderr: str


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

    @property
    def shown(self) -> str:
        """Return the address as people are told it: with its port and jump hosts, if special."""
        port = "" if self.port == 22 else f" port {self.port}"
        through = f" through {', '.join(self.through)}" if self.through else ""
        return f"{self.address}{port}{through}"

    @property
    def place(self) -> tuple[str, int, tuple[str, ...]]:
        """Return what two connections to one SSH server have in common."""
        return self.peer or self.address, self.port, self.through


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


class GuestShell(Protocol):
    """One open connection to one guest. Every operation ends by its deadline."""

    guest: str
    way: Way

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        """Run ``command`` in the guest's POSIX ``sh``, whatever the user's login shell is.

        ``command`` is built from constants of ours or with :func:`shlex.quote`. What the login
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
