"""Disks that are written to again if who leaves this kernel dies on the way, when they are not.

``python -I -m harness.host.kernel.writable_again``, started before a guest is paused. Between the
emergency remount and the kexec a process may be killed as at any other time; then its guardian
brings guests back, for which disks have to be written to. Which ones, the pipe between them tells
this process beforehand; its end tells that the other one has died.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from harness.core.background import BackgroundProcess
from harness.core.errors import HarnessError, UpdateFailed
from harness.core.polling import readable
from harness.core.process_state import settle_process
from harness.core.timebase import Deadline
from harness.host.kernel import read_only
from harness.host.mounts import Mount

_PROGRAM = "harness.host.kernel.writable_again"
_READY = b"ready\n"
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Watch:
    """The process, for who leaves this kernel; it ends by itself."""

    def __init__(self, python: str = sys.executable) -> None:
        """Start it. Raises UpdateFailed."""
        try:
            self._process = BackgroundProcess(
                [python, "-I", "-m", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            raise UpdateFailed(f"no process to watch over the disks: {error.strerror}") from error

    def require(self, deadline: Deadline) -> None:
        """Wait until it watches. Raises UpdateFailed where it does not by the deadline."""
        said = b""
        if self._process.stdout is not None and readable([self._process.stdout.fileno()], deadline):
            said = os.read(self._process.stdout.fileno(), len(_READY))
        if said != _READY:
            self.close()
            raise UpdateFailed("the process that watches over the disks did not start")

    def arm(self, before: Iterable[Mount]) -> None:
        """From now on, should this process end, have these be written to again. Never raises."""
        self._tell([asdict(one) for one in before])

    def disarm(self) -> None:
        """This process does it itself, or there is nothing to do. Never raises."""
        self._tell([])

    def close(self) -> None:
        """It is not needed any more, and has ended. Never raises."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        with suppress(OSError):
            self._process.kill()
            self._process.wait()

    def _tell(self, said: object) -> None:
        pipe = self._process.stdin
        if pipe is not None:
            with suppress(OSError, ValueError):  # it has ended, or was closed
                os.write(pipe.fileno(), json.dumps(said).encode() + b"\n")


def watch(lines: Iterable[str]) -> None:
    """Do what the last line says, once there are no more. Raises InfrastructureError."""
    last: Sequence[dict[str, Any]] = []
    for line in lines:
        last = json.loads(line)
    if last:
        read_only.await_read_only()  # the kernel may be at it still
        read_only.make_writable([_mount(**one) for one in last])


def _mount(*, options: Iterable[str], of_all: Iterable[str], **more: str) -> Mount:
    return Mount(options=tuple(options), of_all=tuple(of_all), **more)


def main() -> int:
    """Return 0 if there was nothing to do, or it was done."""
    settle_process()
    for one in _IGNORED:
        signal.signal(one, signal.SIG_IGN)
    os.write(sys.stdout.fileno(), _READY)
    try:
        watch(sys.stdin)
    except HarnessError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
