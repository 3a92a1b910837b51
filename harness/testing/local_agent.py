"""A guest agent whose guest is this machine: qemu-ga's commands for programs and files, for real.

What is missing for a guest is the guest; the scripts, the named pipe and the processes are there.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import HypervisorError
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.guest.agent_channel import EXEC, FILES, GET_TIME


class LocalAgent:
    """An :class:`harness.guest.agent_channel.AgentChannel`; ``close`` ends what it has started.

    ``before[command]`` is called before a command and may raise or meddle; ``asked`` lists the
    commands, ``blocked`` those that are switched off.
    """

    guest = "here"

    def __init__(self) -> None:
        self.before: dict[str, Callable[[], object]] = {}
        self.asked: list[str] = []
        self.blocked: frozenset[str] = frozenset()
        self.paths: list[Path] = []
        """Every file that was to be opened."""
        self.programs: dict[int, subprocess.Popen[bytes]] = {}
        self._files: dict[int, tuple[int, bytearray]] = {}
        """Handle → descriptor, and what was written and not flushed yet."""

    def ask(self, command: str, deadline: Deadline, arguments: Mapping[str, Any] | None) -> Any:
        """Answer one command. Raises HypervisorError for a refusal."""
        self.asked.append(command)
        if command == "guest-file-open":
            self.paths.append(Path((arguments or {})["path"]))
        self.before.get(command, lambda: None)()
        if command in self.blocked:
            raise self._refused(f"Command {command} has been disabled")
        words = {key.replace("-", "_"): value for key, value in (arguments or {}).items()}
        known: dict[str, Callable[..., Any]] = {
            "guest-info": self._info,
            GET_TIME: SYSTEM_CLOCK.realtime_ns,
            "guest-exec": self._exec,
            "guest-exec-status": self._status,
            "guest-file-open": self._open,
            "guest-file-write": self._write,
            "guest-file-flush": self._flush,
            "guest-file-read": self._read,
            "guest-file-close": self._close,
        }
        return known[command](**words)

    def close(self) -> None:
        """Close every file, which ends what reads them; kill what lives on, and its children."""
        for handle in list(self._files):
            self._close(handle)
        for program in self.programs.values():
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()
        self.programs.clear()

    def _refused(self, message: str) -> HypervisorError:
        return HypervisorError(message, operation="asking the guest agent", guest=self.guest)

    def _info(self) -> dict[str, Any]:
        names = ("guest-info", GET_TIME, *EXEC, *FILES)
        listed = [{"name": name, "enabled": name not in self.blocked} for name in names]
        return {"version": "local", "supported_commands": listed}

    def _exec(self, path: str, arg: list[str], input_data: str = "", **_: Any) -> dict[str, int]:
        given = subprocess.PIPE if input_data else subprocess.DEVNULL
        out = subprocess.PIPE
        try:
            program = subprocess.Popen(
                [path, *arg], stdin=given, stdout=out, stderr=out, process_group=0
            )
        except OSError as error:
            raise self._refused(f"Guest agent command failed, error was '{error}'") from error
        if program.stdin is not None:
            program.stdin.write(base64.b64decode(input_data))
            program.stdin.close()
            program.stdin = None
        self.programs[program.pid] = program
        return {"pid": program.pid}

    def _status(self, pid: int) -> dict[str, Any]:
        if pid not in self.programs:
            raise self._refused("Invalid parameter 'pid'")
        try:
            out, errors = self.programs[pid].communicate(timeout=0.02)
        except subprocess.TimeoutExpired:
            return {"exited": False}
        code = self.programs.pop(pid).returncode
        ended = {"exitcode": code} if code >= 0 else {"signal": -code}
        said = {"out-data": out, "err-data": errors}
        data = {key: base64.b64encode(value).decode() for key, value in said.items() if value}
        return {"exited": True, **ended, **data}

    def _open(self, path: str, mode: str) -> int:
        flags = {"r": os.O_RDONLY, "r+": os.O_RDWR}[mode]
        try:
            handle = os.open(path, flags | os.O_NONBLOCK)
        except OSError as error:
            raise self._refused(f"failed to open file '{path}': {error}") from error
        self._files[handle] = handle, bytearray()
        return handle

    def _file(self, handle: int) -> tuple[int, bytearray]:
        if handle not in self._files:
            raise self._refused(f"handle '{handle}' has not been found")
        return self._files[handle]

    def _write(self, handle: int, buf_b64: str) -> dict[str, Any]:
        data = base64.b64decode(buf_b64)
        self._file(handle)[1].extend(data)
        return {"count": len(data), "eof": False}

    def _flush(self, handle: int) -> dict[str, Any]:
        descriptor, pending = self._file(handle)
        os.write(descriptor, bytes(pending))
        pending.clear()
        return {}

    def _read(self, handle: int, count: int) -> dict[str, Any]:
        data = os.read(self._file(handle)[0], count)
        return {
            "count": len(data),
            "buf-b64": base64.b64encode(data).decode(),
            "eof": not data,
        }

    def _close(self, handle: int) -> dict[str, Any]:
        descriptor, _ = self._file(handle)
        os.close(descriptor)
        del self._files[handle]
        return {}
