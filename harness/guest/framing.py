"""What a command in the guest prints, told from what the login shell says around it.

A login shell may greet before a command and say goodbye after it, be a csh or a fish, or be
replaced by a command that the server forces. So no command is ever an argument of it: all it has to
start is ``sh -s``, which reads a script. The script prints a line that no program can know
beforehand, runs the command, and prints another such line with the command's status.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from harness.core.errors import ProbeError

#: What the login shell is asked to run. No quotes, so that any shell or wrapper can pass it on; no
#: path, which a restricted shell would refuse.
COMMAND = "sh -s"
_HINT = "harness needs a login that runs commands: does `ssh GUEST sh -s` run what is typed?"
#: The marker's halves are put together by printf: a shell that traces what it runs does not print
#: the marker. TMOUT would end a `read` of the script where sh is bash; messages are matched in
#: English.
_SCRIPT = """{{ unset TMOUT; LC_ALL=C; export LC_ALL
printf '%s%s\\n' {token} errors-begin >&2; printf '%s%s\\n' {token} begin
(
{command}
){stdin}
set -- $?; printf '%s%s %s\\n' {token} end $1; printf '%s%s %s\\n' {token} errors-end $1 >&2
exit $1; }}
"""


class NeverBegan(ProbeError):
    """The login shell did not start what it was asked to run."""


@dataclass(frozen=True)
class Marks:
    """The two lines around what one command prints on one of its outputs."""

    begin: bytes
    end: bytes

    def after_begin(self, received: bytes) -> bytes | None:
        """Return what came after the first line; None: that has not come yet."""
        _, found, after = received.partition(self.begin)
        return after if found else None

    def before_end(self, received: bytes) -> tuple[bytes, int] | None:
        """Return the output and the command's status; None: its end has not come yet."""
        output, found, after = received.partition(self.end)
        status, newline, _ = after.partition(b"\n")
        if not (found and newline and status.isdigit()):
            return None
        return output, int(status)

    def within(self, received: bytes) -> bytes:
        """Return the part of ``received`` that the command printed, as far as it has come."""
        after = self.after_begin(received)
        if after is None:
            return b""
        ended = self.before_end(after)
        return after if ended is None else ended[0]


class Frame:
    """What is put around one command; each has lines of its own."""

    command = COMMAND
    """What the login shell is asked to run."""

    def __init__(self) -> None:
        self._token = f"harness-{secrets.token_hex(12)}-"
        self.out = Marks(f"{self._token}begin\n".encode(), f"{self._token}end ".encode())
        self.errors = Marks(
            f"{self._token}errors-begin\n".encode(), f"{self._token}errors-end ".encode()
        )

    def script(self, command: str, *, answers: bool) -> bytes:
        """Return what ``sh -s`` has to read; ``answers``: the command reads its input."""
        stdin = "" if answers else " </dev/null"
        return _SCRIPT.format(token=self._token, command=command, stdin=stdin).encode()

    def cleaned(self, received: bytes) -> bytes:
        """Return what was received, as the marks and answers are looked for in it."""
        return received


def never_began(received: bytes, errors: bytes, guest: str) -> NeverBegan:
    """Return the error for a login shell that did not start ``sh``, with its last words."""
    said = (errors or received).decode(errors="replace").strip().splitlines()
    last = repr(said[-1][:200]) if said else "it said nothing"
    return NeverBegan(
        f"its login shell, or a command that its server forces, runs no command: {last}",
        guest=guest,
        hint=_HINT,
    )
