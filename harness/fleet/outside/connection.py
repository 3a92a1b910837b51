"""One SSH connection to the host: what harness there says, line by line, with a beat between.

A host that is left for another kernel closes no connection. So the command there says something
each second, and a connection on which nothing came for a while is given up.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from pydantic import ValidationError

from harness import __version__
from harness.core.errors import (
    DeadlineExpired,
    InfrastructureError,
    MissingCapability,
    ProbeError,
    ShellUnreachable,
    UsageError,
)
from harness.core.last_line import last_line
from harness.core.settings import SshSection
from harness.core.timebase import Clock, Deadline
from harness.fleet.outside.place import Place
from harness.guest.protocol import Connector, GuestShell, Way
from harness.results.answer import Answer

#: To connect and log in, and for a short command.
_CONNECT_S, _ASK_S = 20.0, 30.0
#: Nothing for so long on a connection: the host, or the way to it, is gone. A beat is due each
#: second, but a host that parks its guests and syncs its disks has other things to do.
SILENT_S = 15.0
_NOT_FOUND = 127
#: ``=`` begins a line of the answer, ``.`` is the beat, and every other line is for people. The
#: answer comes when there are no more beats: what writes it does so in parts.
_SCRIPT = """(while echo .; do sleep 1; done) & beat=$!
{{ answer=$({command} </dev/null 2>&3); }} 3>&1
kill $beat 2>/dev/null; wait $beat 2>/dev/null
printf '%s\\n' "$answer" | sed 's/^/=/'
"""


class HostGone(InfrastructureError):
    """The connection broke, or nothing came by it any more."""


class NoAnswer(InfrastructureError):
    """The command ended, and what it said is no answer."""


@dataclass(frozen=True)
class Reached:
    """How the host was reached, and what it says of itself."""

    way: Way
    own_address: str | None
    """At which of its addresses it was reached, as its sshd says; None: it does not."""


class HostConnection:
    """An open login to the host; the caller closes it."""

    def __init__(self, place: Place, shell: GuestShell, clock: Clock) -> None:
        self._place = place
        self._shell = shell
        self._clock = clock

    @classmethod
    def open(cls, place: Place, connector: Connector, clock: Clock) -> HostConnection:
        """Log in, the host's key checked.

        Raises ShellUnreachable, HostKeyRejected, ConfigError or DeadlineExpired.
        """
        deadline = Deadline.after(_CONNECT_S, clock)
        address = connector.configured_address(place.host) or place.host
        shell = connector.open(place.host, address, SshSection(), place.ssh, deadline)
        return cls(place, shell, clock)

    def close(self) -> None:
        """Close it; never raises."""
        self._shell.close()

    def greet(self) -> Reached:
        """Look whether the harness there is as this one; return how the host was reached.

        Raises MissingCapability where there is none, UsageError for another version, and what
        a command over SSH raises.
        """
        command = 'echo "${SSH_CONNECTION:-}"; harness --version'
        done = self._shell.run(command, Deadline.after(_ASK_S, self._clock), check=False)
        first, _, said = done.stdout.partition("\n")
        if done.returncode == _NOT_FOUND:
            raise MissingCapability(
                "harness-there",
                f"{self._place.host} has no command harness in the PATH of a login that runs a "
                "command; nothing was begun",
                hint="install harness there, as root (docs/how-to/install.md)",
            )
        version = said.strip().rpartition(" ")[2]
        if done.returncode or not version:
            last = last_line(done.stderr, f"status {done.returncode}")
            raise InfrastructureError(f"{self._place.host}: harness --version: {last}")
        if version != __version__:
            raise UsageError(
                f"{self._place.host} has harness {version}, and this is {__version__}: its record "
                "might not be understood here; nothing was begun",
                hint="install one version on both machines, or run harness there",
            )
        told = first.split()
        return Reached(self._shell.way, told[2] if len(told) == 4 else None)

    def follow(
        self, words: Sequence[str], heard: Callable[[], object], say: Callable[[str], object]
    ) -> Answer:
        """Give ``harness WORDS`` and return its answer; ``say`` gets each line for people.

        ``heard`` is called whenever anything has come. Raises HostGone where the host falls
        silent, NoAnswer where the command ends without one.
        """
        command = _SCRIPT.format(command=shlex.join(["harness", *words]))
        document: list[str] = []
        last = ""
        try:
            with closing(self._shell.stream(command, self._silence())) as stream:
                while True:
                    line, _ = stream.listen(self._silence())
                    heard()
                    if line.startswith("="):
                        document.append(line[1:])
                    elif line != ".":
                        say(line)
                        last = line
        except (ShellUnreachable, DeadlineExpired) as error:
            raise HostGone(f"{self._place.host}: {error.message}") from error
        except ProbeError:  # the command has ended
            return self._parsed("\n".join(document), last)

    def _silence(self) -> Deadline:
        return Deadline.after(SILENT_S, self._clock)

    def _parsed(self, document: str, last: str) -> Answer:
        try:
            return Answer.model_validate_json(document)
        except ValidationError as error:
            no_json = error.errors()[0]["type"] == "json_invalid"
            what = "no answer" if no_json else "an answer that is not understood"
            raise NoAnswer(
                f"harness on {self._place.host} gave {what}: {last or 'it said nothing'}"
            ) from error
