"""The guest agent of a guest in memory: QEMU's commands, answered as qemu-ga does."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import AgentSilent, HarnessError, HypervisorError, WrongState
from harness.core.timebase import Deadline
from harness.guest import powershell
from harness.guest.agent_channel import EXEC, FILES, GET_TIME, INTERFACES, OS_INFO, SET_TIME
from harness.guest.protocol import Completed
from harness.testing import qga_schema
from harness.testing.guest import FakeGuest
from harness.testing.guest_shell import InMemoryShell, InMemoryStream
from harness.testing.windows import Windows, run_powershell

COMMANDS = ("guest-info", "guest-ping", GET_TIME, SET_TIME, OS_INFO, INTERFACES, *EXEC, *FILES)
_RUN = re.compile(
    r"\{ \( [^\n]*\n(?P<command>.*)\n\) </dev/null; .* (?P<token>harness-\S+) end", re.S
)
_ROOM = re.compile(r"mkdir \"\$folder/(harness-[0-9a-f]+)\"")
_STREAM = re.compile(
    r"cd (?P<room>/run/\S+) && exec 3<in >out.*?\n\( exec [^\n]*\n(?P<command>.*)\n\) & program",
    re.S,
)
_LINUX = {"id": "fake", "kernel-release": "6.1.0"}
#: As qemu-ga tells it of a Windows Server 2022.
WINDOWS_OS = {
    "id": "mswindows",
    "name": "Microsoft Windows",
    "pretty-name": "Windows Server 2022 Standard",
    "version": "Microsoft Windows Server 2022",
    "version-id": "2022",
    "variant": "server",
    "variant-id": "server",
    "kernel-release": "20348",
    "kernel-version": "10.0",
    "machine": "x86_64",
}
_FIRST_PID, _FIRST_HANDLE = 500, 1000


@dataclass
class _Room:
    """A named pipe and a file, and the program between them, once it was started."""

    program: InMemoryStream | None = None
    written: bytes = b""
    answers: bytes = b""


class FakeAgent:
    """The agent of one :class:`FakeGuest`; what it blocks and whether it answers is the guest's.

    ``restart`` forgets every file and program, as a new process of qemu-ga does.
    """

    def __init__(self, guest: FakeGuest) -> None:
        self._guest = guest
        self._next = 0
        self.restart()

    def restart(self) -> None:
        """Begin again: what was open is lost."""
        self._ended: dict[int, Completed | None] = {}
        self._rooms: dict[str, _Room] = {}
        self._open: dict[int, tuple[_Room, str]] = {}

    def ask(self, command: str, deadline: Deadline, arguments: Mapping[str, Any] | None) -> Any:
        """Answer one command. Raises HypervisorError as libvirt does."""
        guest = self._guest
        guest.asked.append(command)
        if guest.paused:
            raise self._error(WrongState, command, "domain is not running")
        if not guest.guest_agent:
            raise self._error(AgentSilent, command, "QEMU guest agent is not connected")
        if guest.agent_silent:
            guest.clock.sleep(min(deadline.remaining_s(), 0.2))
            raise self._error(AgentSilent, command, "Guest agent not available for now")
        if command in guest.agent_blocks:
            raise self._error(HypervisorError, command, f"Command {command} has been disabled")
        with guest.answering("asking the guest agent", deadline):
            known: dict[str, Callable[..., Any]] = {
                "guest-info": self._info,
                "guest-ping": dict,
                GET_TIME: guest.realtime_ns,
                SET_TIME: self._set_time,
                INTERFACES: lambda: [{"name": "lo", "hardware-address": "00:00:00:00:00:00"}],
                OS_INFO: lambda: dict(_LINUX if guest.windows is None else WINDOWS_OS),
                "guest-exec": self._exec,
                "guest-exec-status": self._status,
                "guest-file-open": self._file_open,
                "guest-file-write": self._file_write,
                "guest-file-flush": self._file_flush,
                "guest-file-read": self._file_read,
                "guest-file-close": self._file_close,
            }
            if refused := qga_schema.refusal(command, arguments or {}):
                raise self._error(HypervisorError, command, refused[1])
            words = {key.replace("-", "_"): value for key, value in (arguments or {}).items()}
            answer = known[command](**words)
            qga_schema.expect_answer(command, answer)
            return answer

    def _error(self, kind: type[HypervisorError], command: str, message: str) -> HypervisorError:
        return kind(
            f"asking the guest agent ({command}): {message}",
            operation="asking the guest agent",
            guest=self._guest.name,
        )

    def _refused(self, message: str) -> HypervisorError:
        return self._error(HypervisorError, "file", message)

    def _info(self) -> dict[str, Any]:
        blocked = self._guest.agent_blocks
        listed = [{"name": name, "enabled": name not in blocked} for name in COMMANDS]
        return {"version": "7.2", "supported_commands": listed}

    def _set_time(self, time: int) -> dict[str, Any]:
        if not self._guest.agent_sets_time:
            raise self._refused("hwclock failed")
        windows = self._guest.windows
        if windows is not None and windows.refuses_step is not None:
            raise self._refused(f"Failed to set time to guest: {windows.refuses_step}")
        self._guest.step(time - self._guest.realtime_ns())
        return {}

    def _number(self, first: int) -> int:
        self._next += 1
        return first + self._next

    def _exec(self, path: str, arg: list[str], **_: Any) -> dict[str, int]:
        pid, script = self._number(_FIRST_PID), arg[-1]
        if self._guest.windows is not None:
            self._ended[pid] = self._run_windows(self._guest.windows, path, arg, **_)
        elif found := _STREAM.match(script.partition("\n")[2]):
            room = self._rooms[found["room"]]
            room.program = InMemoryShell(self._guest).stream(
                found["command"], Deadline.after(1.0, self._guest.clock)
            )
            room.answers += b"begun\n" + room.program.said()
            self._ended[pid] = None
        elif found := _RUN.search(script):
            done = self._run(found["command"])
            line = f"{found['token']}end {done.returncode}\n"
            self._ended[pid] = Completed(0, done.stdout + line, done.stderr)
        else:
            self._ended[pid] = Completed(127, "", "not found")
        return {"pid": pid}

    def _run_windows(
        self, windows: Windows, path: str, arg: list[str], input_data: str = "", **_: Any
    ) -> Completed:
        if (path, *arg) != ("powershell.exe", *powershell.WORDS[1:]):
            # g_spawn's words on Windows; qemu-ga hands them on.
            raise self._refused("Failed to execute child process (No such file or directory)")
        out, errors = io.BytesIO(), io.BytesIO()
        said = io.BytesIO(base64.b64decode(input_data))
        status = run_powershell(windows, said, out, errors)
        return Completed(status, out.getvalue().decode(), errors.getvalue().decode())

    def _run(self, command: str) -> Completed:
        if name := _ROOM.search(command):
            self._rooms[f"/run/{name[1]}"] = _Room()
            return Completed(0, f"/run/{name[1]}\n", "")
        return InMemoryShell(self._guest).answer(command)

    def _status(self, pid: int) -> dict[str, Any]:
        if pid not in self._ended:
            raise self._refused("Invalid parameter 'pid'")
        done = self._ended[pid]
        if done is None:
            return {"exited": False}
        del self._ended[pid]
        said = {"out-data": done.stdout, "err-data": done.stderr}
        data = {key: base64.b64encode(text.encode()).decode() for key, text in said.items() if text}
        return {"exited": True, "exitcode": done.returncode, **data}

    def _file_open(self, path: str, mode: str) -> int:
        folder, _, file = path.rpartition("/")
        if folder not in self._rooms:
            raise self._refused(f"failed to open file '{path}' (mode: '{mode}')")
        handle = self._number(_FIRST_HANDLE)
        self._open[handle] = self._rooms[folder], file
        return handle

    def _room(self, handle: int) -> _Room:
        if handle not in self._open:
            raise self._refused(f"handle '{handle}' has not been found")
        return self._open[handle][0]

    def _file_write(self, handle: int, buf_b64: str) -> dict[str, Any]:
        self._room(handle).written += base64.b64decode(buf_b64)
        return {"count": len(buf_b64), "eof": False}

    def _file_flush(self, handle: int) -> dict[str, Any]:
        room = self._room(handle)
        *lines, room.written = room.written.split(b"\n")
        for line in lines:
            if room.program is not None:
                try:
                    answer = room.program.ask(line.decode(), Deadline.after(1.0))[1]
                except HarnessError:
                    continue  # it has ended, and says nothing
                room.answers += answer.encode() + b"\n"
        return {}

    def _file_read(self, handle: int, count: int) -> dict[str, Any]:
        room = self._room(handle)
        chunk, room.answers = room.answers[:count], room.answers[count:]
        return {"count": len(chunk), "buf-b64": base64.b64encode(chunk).decode(), "eof": not chunk}

    def _file_close(self, handle: int) -> dict[str, Any]:
        room = self._room(handle)
        _, file = self._open.pop(handle)
        if file == "in" and room.program is not None:
            room.program.close()
        return {}
