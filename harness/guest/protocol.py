"""What the rest of the program may ask of a guest's shell.

The real one is :class:`harness.guest.shell.SshShell`; unit tests use a fake that passes the same
contract suite (``tests/contract/test_shell.py``).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Protocol

from harness.core.timebase import Deadline


@dataclass(frozen=True)
class Completed:
    """How a command in the guest ended. Output is data: bytes decoded with replacement."""

    returncode: int
    stdout: str
    stderr: str


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

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        """Run ``command`` in the guest user's shell.

        ``command`` is built from constants of ours or with :func:`shlex.quote`. With ``check`` a
        non-zero status raises CommandFailed. Raises ShellUnreachable, DeadlineExpired.
        """

    def stream(self, command: str, deadline: Deadline) -> LineStream:
        """Start ``command`` as a long-lived line server."""

    def close(self) -> None:
        """Close the connection. Idempotent, never raises."""


def posix(script: str) -> str:
    """``script`` (a constant of ours) as a command for any login shell, be it csh or fish."""
    return f"exec sh -c {shlex.quote(script)}"
