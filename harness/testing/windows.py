"""What stands in for a Windows guest: it answers our PowerShell programs as Windows would.

It runs no PowerShell. It holds what it is asked to run against the programs that harness has, and
refuses every other, as Windows would refuse what it cannot parse. So a test with it shows that the
right program arrives whole, and that the answer is understood; not that Windows gives that answer.
Run as a program it is the login shell of such a guest, for a real sshd.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from harness.clock.agents import agent
from harness.core.errors import CommandFailed, ProbeError
from harness.core.process_state import settle_process
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.guest import powershell, windows
from harness.guest.powershell import LoginShell
from harness.guest.protocol import Completed, Language, Way

UUID = "4C4C4544-0051-3610-8052-B4C04F4E3132"
MAC = "52:54:00:AA:BB:01"
#: What its clock agent answers to a user without the privilege.
PRIVILEGE_NOT_HELD = "failed SeSystemtimePrivilege is not held (Win32 error 1300)"
#: As a German Windows says it: harness goes by no word of it.
UNKNOWN = (
    b'Der Befehl "sh" ist entweder falsch geschrieben oder\r\nkonnte nicht gefunden werden.\r\n'
)
_TOKEN = re.compile(r"'(harness-[0-9a-f]{24}-)' \+ 'begin'")
_INNER = re.compile(r"\n    & \{\n(.*)\n    \} \| ForEach-Object", re.DOTALL)
_SINCE = re.compile(r"EventRecordID>=(\d+)\]")
#: FILETIME of a boot, and 100 ns a second.
_BOOTED = 133_770_000_000_000_000
_PER_S = 10_000_000
_SWITCHED_OFF = "Cannot invoke method. Method invocation is supported only on core types"


@dataclass
class Windows:
    """A Windows guest; what it tells may be changed by a test."""

    uuid: str = UUID
    mac: str = MAC
    admin: bool = True
    w32time: str | None = "Running"
    boot: int = _BOOTED
    events: list[str] = field(
        default_factory=lambda: ["1041 Service_Control_Manager 7036 A service was started."]
    )
    processes: dict[tuple[int, int], str] = field(
        default_factory=lambda: {
            (4, _BOOTED): "System",
            (612, _BOOTED + 5 * _PER_S): "wininit.exe",
            (2020, _BOOTED + 60 * _PER_S): "sqlservr.exe",
        }
    )
    resets: int = 3
    offset_ns: int = 0
    """How far its clock is from this machine's."""
    refuses_step: str | None = None
    resync_fails: bool = False
    asked: list[str] = field(default_factory=list)
    """The programs that it was given."""

    def boot_line(self) -> str:
        """Return the first line of facts and events."""
        return f"boot_id={self.uuid}-612-{self.boot + 5 * _PER_S}"

    def answer(self, program: str) -> list[str]:
        """Return what a program prints. Raises CommandFailed in PowerShell's words."""
        self.asked.append(program)
        known: dict[str, Callable[[], list[str]]] = {
            windows.FACTS: self._facts,
            windows.MARK: lambda: [self.events[-1].split(" ")[0]],
            windows.LIFE: self._life,
            windows.RESYNC: self._resync,
            windows.TIME_SERVICE: self._time_service,
            windows.POWERSHELL_STATE: lambda: [
                "version=5.1.20348.2849",
                "mode=FullLanguage",
                "culture=de-DE",
                "zone=60",
            ],
        }
        if program in known:
            return known[program]()
        since = _SINCE.search(program)
        if since is not None and program == windows.events_since(int(since[1])):
            new = [one for one in self.events if int(one.split(" ")[0]) >= int(since[1])]
            return [self.boot_line(), *new]
        raise CommandFailed("a parser error", returncode=1, stdout="", stderr="ParserError")

    def completed(self, program: str) -> Completed:
        """Return how a program ended."""
        try:
            return Completed(0, "".join(f"{one}\n" for one in self.answer(program)), "")
        except CommandFailed as error:
            return Completed(error.returncode, error.stdout, error.stderr)

    def _facts(self) -> list[str]:
        found = [
            self.boot_line(),
            "windows=Windows_NT",
            "kernel=10.0.20348",
            f"admin={self.admin}",
            f"machine={self.uuid}",
            f"mac={self.mac}",
            "ssh=192.0.2.1 50000 192.0.2.9 22",
        ]
        return found + ([f"w32time={self.w32time}"] if self.w32time else [])

    def _life(self) -> list[str]:
        running = [f"process {pid} {at} {name}" for (pid, at), name in self.processes.items()]
        return [
            f"now {_BOOTED + 3600 * _PER_S}",
            *running,
            "volume \\\\?\\Volume{6a1c1a3a-0000-0000-0000-100000000000}\\ NTFS C:\\",
            "tcp 192.0.2.9:22 192.0.2.1:50000",
            f"resets {self.resets}",
        ]

    def _resync(self) -> list[str]:
        if self.resync_fails:
            said = "w32tm ended with status -2147023834"
            raise CommandFailed(said, returncode=1, stdout="", stderr=said)
        return []

    def _time_service(self) -> list[str]:
        return [f"service={self.w32time}", "source=time.windows.com,0x8"]

    def clock_answer(self, line: str) -> str:
        """Return what the clock agent answers to a line."""
        what, number, value = (line + "  ").split(" ", 2)
        return f"{number} {self._clock(what, value.strip())}"

    def _clock(self, what: str, value: str) -> str:
        real, mono = SYSTEM_CLOCK.realtime_ns() + self.offset_ns, SYSTEM_CLOCK.monotonic_ns()
        fixed = {"h": "hello step probe", "c": "none", "u": "none", "w": "1 0 0 0 0 0 50000000"}
        if what == "r":
            return f"{real} {real + 1} {mono} {mono}"
        if what in fixed:
            return fixed[what]
        if what not in ("a", "s"):
            return "what"
        if self.refuses_step is not None:
            return f"failed {self.refuses_step}"
        self.offset_ns += int(value) if what == "s" else 0
        return "ok"


class WindowsShell:
    """A GuestShell to it, in memory, that has been recognised already."""

    speaks = Language.POWERSHELL

    def __init__(self, guest: Windows, name: str = "win1") -> None:
        self.guest = name
        self.way = Way(name)
        self.windows = guest

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        done = self.windows.completed(command)
        if check and done.returncode:
            raise CommandFailed(done.stderr, returncode=1, stdout=done.stdout, stderr=done.stderr)
        return done

    def stream(self, command: str, deadline: Deadline) -> WindowsStream:
        if command != agent("powershell").command:
            raise ProbeError("the remote loop ended: ParserError", guest=self.guest)
        return WindowsStream(self.windows)

    def close(self) -> None:
        return


class WindowsStream:
    """The clock agent in it."""

    def __init__(self, guest: Windows) -> None:
        self._windows = guest

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        sent_ns = SYSTEM_CLOCK.monotonic_ns()
        return sent_ns, self._windows.clock_answer(line), SYSTEM_CLOCK.monotonic_ns()

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        raise ProbeError("there is no answer that came late")

    def close(self) -> None:
        return


def run_powershell(guest: Windows, said: BinaryIO, out: BinaryIO, errors: BinaryIO) -> int:
    """Do what the constant in ``powershell.WORDS`` does: read a program, run it."""
    length = int(said.readline())
    text = said.read(length)
    if said.readline().strip():
        return 96
    program = base64.b64decode(text, validate=True).decode()
    token, inner = _TOKEN.search(program), _INNER.search(program)
    if token is None or inner is None or "\0" in program:
        errors.write(b"ParserError: Missing closing '}' in statement block.\r\n")
        return 1
    mark, status = token[1], 0
    _tell(errors, f"{mark}errors-begin")
    _tell(out, f"{mark}begin")
    try:
        if inner[1] == agent("powershell").command:
            for line in iter(said.readline, b""):
                _tell(out, guest.clock_answer(line.decode().strip()))
        else:
            for one in guest.answer(inner[1]):
                _tell(out, one)
    except CommandFailed as error:
        status = 1
        _tell(errors, error.stderr)
    _tell(out, f"{mark}end {status}")
    _tell(errors, f"{mark}errors-end {status}")
    return status


def _tell(stream: BinaryIO, text: str) -> None:
    stream.write(text.encode() + b"\n")
    stream.flush()


def login_shell(shell: LoginShell, command: str, *, restricted: bool = False) -> int:
    """Run ``command`` as OpenSSH on Windows hands it to ``shell``; the exit status.

    ``restricted``: PowerShell is in constrained language mode.
    """
    out, errors = sys.stdout.buffer, sys.stderr.buffer
    words = " ".join(powershell.WORDS)
    if shell is LoginShell.POWERSHELL:
        words = f"$input | {words}"
    if command == words and restricted:
        errors.write(_SWITCHED_OFF.encode() + b" in this language mode.\r\n")
        return 1
    if command == words:
        return run_powershell(Windows(), sys.stdin.buffer, out, errors)
    if command == powershell.QUESTION:
        cmd = shell is LoginShell.CMD
        filled = command.replace("%OS%" if cmd else "$env:OS", "Windows_NT")
        out.write(filled.removeprefix("echo ").encode() + b"\r\n")
        return 0
    errors.write(UNKNOWN)
    return 1 if shell is LoginShell.POWERSHELL else 9009


if __name__ == "__main__":
    settle_process()
    sys.exit(
        login_shell(
            LoginShell(sys.argv[1]),
            os.environ.get("SSH_ORIGINAL_COMMAND", ""),
            restricted="restricted" in sys.argv[2:],
        )
        % 256
    )
