"""A guest's shell by its guest agent (:class:`harness.guest.protocol.GuestShell`); no login.

``guest-exec`` starts a program and tells what it printed once it has ended. An agent does one
command at a time, for all callers together: nothing is ever waited for inside one command.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from harness.core.errors import (
    HarnessError,
    HypervisorError,
    MissingCapability,
    ProbeError,
    ShellUnreachable,
)
from harness.core.timebase import Deadline
from harness.guest import powershell
from harness.guest.agent_channel import (
    EXEC,
    FILES,
    OS_INFO,
    AgentAbilities,
    AgentChannel,
    abilities_of,
    nonsense,
)
from harness.guest.agent_stream import AgentStream
from harness.guest.powershell import PowerShellFrame
from harness.guest.protocol import Completed, Language, Way

#: What one command may print: libvirt gives an agent up whose answer is longer than 10 MiB, and
#: then no program of the host can ask it.
OUTPUT_LIMIT_BYTES = 4 * 1024 * 1024
#: Between two questions whether a program has ended: soon at first, then ever less often.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.002, 0.1
#: How qemu-ga calls Windows (``GuestOSInfo.id``, since 2.10).
_WINDOWS_ID = "mswindows"
#: An agent may be started without any environment. head cuts what is too long: the last line,
#: which cannot be known beforehand, is missing then.
_SCRIPT = """PATH=${{PATH:-/usr/sbin:/usr/bin:/sbin:/bin}} LC_ALL=C; export PATH LC_ALL; unset TMOUT
{{ ( HARNESS={token}; export HARNESS
{command}
) </dev/null; printf '%s%s %d\\n' {token} end $?; }} | head -c {limit}
"""
#: Its shells have the token in their arguments, what they start in its environment. The script that
#: looks for it has it in two pieces. No process is started for a look.
_KILL = """for one in /proc/[0-9]*; do
    for file in cmdline environ; do
        while IFS= read -r line || [ -n "$line" ]; do
            case $line in *{half}""{other}*) kill -9 "${{one#/proc/}}" ;; esac
        done <"$one/$file"
    done
done 2>/dev/null"""
_KILL_S = 1.0


class AgentShell:
    """One guest by its agent; safe to use from one thread at a time.

    ``abilities`` says which commands this agent allows; what needs others raises MissingCapability.
    """

    def __init__(self, channel: AgentChannel, abilities: AgentAbilities) -> None:
        self.guest = channel.guest
        self.speaks = Language.SH
        self.way = Way(f"the guest agent of {channel.guest}", access="agent")
        self.abilities = abilities
        self.channel = channel
        self._streams: list[AgentStream] = []

    @classmethod
    def open(cls, channel: AgentChannel, deadline: Deadline) -> AgentShell:
        """Ask the agent what it allows, and in which system it runs.

        Raises ShellUnreachable where no agent answers, DeadlineExpired, ProbeError.
        """
        try:
            shell = cls(channel, abilities_of(channel, deadline))
        except HypervisorError as error:
            raise unreachable(channel.guest, error) from error
        shell._learn_language(deadline)
        return shell

    def _learn_language(self, deadline: Deadline) -> None:
        """An agent that does not tell its system is taken for that of a Linux."""
        if OS_INFO in self.abilities.allowed:
            said = self.ask(OS_INFO, deadline)
            if isinstance(said, dict) and said.get("id") == _WINDOWS_ID:
                self.speaks = Language.POWERSHELL

    def ask(self, command: str, deadline: Deadline, **arguments: Any) -> Any:
        """Return the agent's answer to one of its commands.

        Raises ShellUnreachable where no agent answers, or refuses, and DeadlineExpired.
        """
        try:
            return self.channel.ask(command, deadline, arguments or None)
        except HypervisorError as error:
            raise unreachable(self.guest, error) from error

    def execute(
        self, path: str, arguments: Sequence[str], deadline: Deadline, given: bytes = b""
    ) -> Completed:
        """Run a program, no shell around it, and return how it ended; ``given`` is its input.

        Raises MissingCapability where the agent may not run programs, and what ``ask`` does.
        """
        pid = self.start(path, arguments, deadline, given)
        return self._await(pid, deadline)

    def _await(self, pid: int, deadline: Deadline, token: str = "") -> Completed:
        wait_s = _FIRST_LOOK_S
        while (done := self.look(pid, deadline)) is None:
            if deadline.expired and token:
                self._kill(token)
            deadline.check("running a command by the guest agent")
            deadline.clock.sleep(min(wait_s, deadline.remaining_s()))
            wait_s = min(2 * wait_s, _LAST_LOOK_S)
        return done

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        """Run a command in ``/bin/sh``, or in PowerShell, and collect what it prints."""
        if self.speaks is Language.POWERSHELL:
            completed = self._run_powershell(command, deadline)
        else:
            completed = self._run_sh(command, deadline)
        if check:
            completed.expect_success(self.guest)
        return completed

    def _run_powershell(self, command: str, deadline: Deadline) -> Completed:
        frame = PowerShellFrame()
        program, *words = powershell.WORDS
        done = self.execute(f"{program}.exe", words, deadline, frame.script(command, answers=False))
        after = frame.out.after_begin(frame.cleaned(done.stdout.encode()))
        ended = frame.out.before_end(after) if after is not None else None
        if ended is None:
            raise self._endless(done, "PowerShell")
        errors = frame.errors.within(frame.cleaned(done.stderr.encode()))
        return Completed(ended[1], ended[0].decode(), errors.decode())

    def _run_sh(self, command: str, deadline: Deadline) -> Completed:
        token = f"harness-{secrets.token_hex(12)}-"
        script = _SCRIPT.format(command=command, token=token, limit=OUTPUT_LIMIT_BYTES)
        done = self._await(self.start("/bin/sh", ["-c", script], deadline), deadline, token)
        output, ended, rest = done.stdout.rpartition(f"{token}end ")
        status = rest.strip()
        if not (ended and status.isdigit()):
            raise self._endless(done, "sh")
        return Completed(int(status), output, done.stderr)

    def stream(self, command: str, deadline: Deadline) -> AgentStream:
        """Start a long-lived line server, asked by way of a named pipe and a file in the guest."""
        if lacking := self.abilities.lacks((*EXEC, *FILES)):
            raise MissingCapability("guest-agent", f"its guest agent lacks {', '.join(lacking)}")
        stream = AgentStream.open(self, command, deadline)
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """End every program that was started; never raises."""
        for stream in self._streams:
            stream.close()

    def start(
        self, path: str, arguments: Sequence[str], deadline: Deadline, given: bytes = b""
    ) -> int:
        """Start a program and return its pid, for ``look``; raises as ``execute`` does."""
        if lacking := self.abilities.lacks(EXEC):
            raise MissingCapability("guest-agent", f"its guest agent lacks {', '.join(lacking)}")
        asked = {"path": path, "arg": list(arguments), "capture-output": True}
        if given:
            asked["input-data"] = base64.b64encode(given).decode()
        said = self.ask("guest-exec", deadline, **asked)
        return int(_field(self.guest, said, "pid", int))

    def look(self, pid: int, deadline: Deadline) -> Completed | None:
        """Return how a program has ended; None while it runs. The end is reported once."""
        said = self.ask("guest-exec-status", deadline, pid=pid)
        return self._ended(said) if _field(self.guest, said, "exited", bool) else None

    def _kill(self, token: str) -> None:
        """End what an abandoned command has started: no connection breaks that would."""
        script = _KILL.format(half=token[:16], other=token[16:])
        with suppress(HarnessError):
            self.start("/bin/sh", ["-c", script], Deadline.after(_KILL_S))

    def _ended(self, said: Mapping[str, Any]) -> Completed:
        """A program that a signal ended has the status that a shell would give it."""
        code = said.get("exitcode", 128 + int(said.get("signal", 0) or 0))
        out, errors = (_decoded(self.guest, said.get(key)) for key in ("out-data", "err-data"))
        return Completed(int(code), out, errors)

    def _endless(self, done: Completed, what: str) -> ProbeError:
        if len(done.stdout) >= OUTPUT_LIMIT_BYTES // 4:  # characters; of at most four bytes each
            message = f"a command printed more than {OUTPUT_LIMIT_BYTES} bytes"
        else:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
            message = f"its guest agent runs no {what}: {last[0][:200]!r}"
        return ProbeError(message, guest=self.guest)


def unreachable(guest: str, error: HypervisorError) -> ShellUnreachable:
    """Return what an agent that does not answer, or refuses, means for a shell."""
    return ShellUnreachable(f"guest agent: {error.message}", guest=guest, hint=error.hint)


def _field(guest: str, said: Any, name: str, kind: type[int]) -> Any:
    """Return one field of an answer; ``bool`` is an ``int`` as well."""
    value = said.get(name) if isinstance(said, dict) else None
    if not isinstance(value, kind):
        raise nonsense(guest, said)
    return value


def _decoded(guest: str, data: object) -> str:
    if data is None:
        return ""
    try:
        return base64.b64decode(str(data), validate=True).decode(errors="replace")
    except ValueError as error:
        raise nonsense(guest, data) from error
