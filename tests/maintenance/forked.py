"""Processes that run ``harness`` and need not load it: forked of one that has.

Each has descriptors, environment, folder, session and end of its own, and nothing of another's but
what was imported. What Python itself does as it starts is not seen by them: a closed descriptor, or
what the environment says of encodings, needs an interpreter that is started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

PIPE = subprocess.PIPE
_PROGRAM = Path(__file__).with_name("loaded_process.py")


class Forked:
    """A process of ours, with the part of ``subprocess.Popen`` that tests use."""

    def __init__(self, told: IO[str], stdout: IO[Any] | None, stderr: IO[Any] | None) -> None:
        self._told = told
        self.stdout, self.stderr = stdout, stderr
        self.pid = int(told.readline())
        self.returncode: int | None = None

    def poll(self, timeout_s: float = 0.0) -> int | None:
        """Its exit code, negative for a signal; None: it goes on."""
        if self.returncode is None and select.select([self._told], [], [], timeout_s)[0]:
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code. Raises TimeoutExpired, and the process is gone."""
        code = self.poll(timeout)
        if code is None:
            self.kill()
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return code

    def kill(self) -> None:
        """SIGKILL."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[Any, Any]:
        """All that is left of stdout and stderr, once it has ended. Raises TimeoutExpired."""
        with ThreadPoolExecutor(2) as pool:
            read = [pool.submit(_rest, stream) for stream in (self.stdout, self.stderr)]
            self.wait(timeout)
            return read[0].result(), read[1].result()


def _rest(stream: IO[Any] | None) -> Any:
    if stream is None:
        return None
    with stream:
        return stream.read()


class LoadedProcess:
    """A process that has loaded ``imports`` (code), and is forked by :meth:`start`."""

    def __init__(self, imports: str) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", _PROGRAM, str(theirs.fileno()), imports],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def start(
        self,
        code: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        stdout: int = PIPE,
        stderr: int = PIPE,
        text: bool = False,
        new_session: bool = False,
    ) -> Forked:
        """Run ``code`` in a process of its own, as ``python -c`` would. Standard input is empty."""
        request = {
            "code": code,
            "arguments": arguments,
            "folder": str(folder),
            "environment": dict(environment),
            "new_session": new_session,
        }
        told, tell = os.pipe()
        empty = os.open(os.devnull, os.O_RDONLY)
        ours, theirs = zip(*(_ends(one, text) for one in (stdout, stderr)), strict=True)
        descriptors = [empty, *theirs, tell]
        socket.send_fds(self._requests, [json.dumps(request).encode()], descriptors)
        for descriptor, given in zip(descriptors, (PIPE, stdout, stderr, PIPE), strict=True):
            if given == PIPE:
                os.close(descriptor)
        return Forked(open(told), *ours)

    def close(self) -> None:
        """End the process; those that were forked of it go on."""
        self._requests.close()
        self._process.wait(30)


def _ends(given: int, text: bool) -> tuple[IO[Any] | None, int]:
    """What to read from, and the descriptor for the process."""
    if given != PIPE:
        return None, given
    read, write = os.pipe()
    return open(read, "r" if text else "rb"), write
