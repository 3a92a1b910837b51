"""What a command in the guest prints, told from what the login shell says around it.

A login shell may greet before a command and say good-bye after it, be a csh or a fish, or be
replaced by a command that the server forces. So no command is ever an argument of it: all it has to
start is ``/bin/sh -s``, which reads a script. The script prints a line that nobody can know
beforehand, runs the command, and prints another such line with the command's status.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from harness.core.errors import ProbeError

#: What the login shell is asked to run: no quotes, so that any shell or wrapper can pass it on.
COMMAND = "/bin/sh -s"
_HINT = "harness needs a login shell that runs /bin/sh, as in: ssh GUEST /bin/sh -s"
#: The marker's halves are put together by printf: a shell that traces what it runs does not print
#: the marker. TMOUT would end a `read` of ours where sh is bash; messages are matched in English.
_SCRIPT = """{{ unset TMOUT; LC_ALL=C; export LC_ALL
printf '%s%s\\n' {token} begin >&2; printf '%s%s\\n' {token} begin
(
{command}
){stdin}
set -- $?; printf '%s%s %s\\n' {token} end $1; printf '%s%s %s\\n' {token} end $1 >&2; exit $1; }}
"""


def _token() -> str:
    return f"harness-{secrets.token_hex(12)}-"


@dataclass(frozen=True)
class Frame:
    """The two lines around the output of one command."""

    token: str = field(default_factory=_token)

    def script(self, command: str, *, answers: bool) -> bytes:
        """Return what ``/bin/sh -s`` has to read; ``answers``: the command reads its input."""
        stdin = "" if answers else " </dev/null"
        return _SCRIPT.format(token=self.token, command=command, stdin=stdin).encode()

    def after_begin(self, received: bytes) -> bytes | None:
        """Return what came after the first line; None: that has not come yet."""
        _, found, after = received.partition(f"{self.token}begin\n".encode())
        return after if found else None

    def before_end(self, received: bytes) -> tuple[bytes, int] | None:
        """Return the output and the command's status; None: its end has not come yet."""
        output, found, after = received.partition(f"{self.token}end ".encode())
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


def never_began(received: bytes, errors: bytes, guest: str) -> ProbeError:
    """Return the error for a login shell that did not start ``/bin/sh``, with its last words."""
    said = (errors or received).decode(errors="replace").strip().splitlines()
    last = repr(said[-1][:200]) if said else "it said nothing"
    return ProbeError(
        f"its login shell, or a command that its server forces, runs no command: {last}",
        guest=guest,
        hint=_HINT,
    )
