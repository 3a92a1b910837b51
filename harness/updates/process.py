"""One process group of an update: started without a shell, watched without polling, ended for good.

Its output goes through a pipe into a file of limited size, so that neither a flood nor a full disk
holds the update, or us, up. Ending it reaches the process group and, beyond it, whatever inherited
the update's environment: a daemon that left the session still carries ``HARNESS_UPDATE_ID``. A
process that also scrubs its environment escapes (docs/adr/0004-ending-an-update.md).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.timebase import SYSTEM_CLOCK, Clock, Deadline

#: An update's output beyond this is thrown away, and the file says so.
OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024
#: Between TERM and KILL.
GRACE_S = 1.0
_MARK = "HARNESS_UPDATE_ID"


class UpdateProcess:
    """A running update. Raises OSError if it cannot be started."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], output: Path
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, _MARK: self._mark},
            start_new_session=True,
        )
        self._exit_fd = os.pidfd_open(self._process.pid)
        self._reader = threading.Thread(target=self._keep, args=(output,), daemon=True)
        self._reader.start()
        self._ender: threading.Thread | None = None

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):
            os.close(self._exit_fd)

    def wait(self, deadline: Deadline) -> int | None:
        """The return code, noticed at once; None if the deadline passes first."""
        poll = select.poll()
        poll.register(self._exit_fd, select.POLLIN)
        if not poll.poll(int(deadline.remaining_s() * 1000) + 1):
            return None
        # The last output may still be in the pipe; a daemon that holds it open is not waited for.
        self._reader.join(timeout=min(0.2, deadline.remaining_s()))
        return self._process.wait()

    def end(self) -> None:
        """End everything of it, in the background: TERM, a grace, KILL. Returns at once."""
        if self._ender is None:
            self._ender = threading.Thread(target=self._end, name="update ender", daemon=True)
            self._ender.start()

    def ended(self, deadline: Deadline) -> bool:
        """Wait for ``end`` to have done its work; True if nothing of the update is left."""
        if self._ender is not None:
            self._ender.join(timeout=deadline.remaining_s())
        return not any(self._family())

    def _end(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._signal(signal.SIGTERM)
        grace = Deadline.after(GRACE_S, clock)
        while any(self._family()) and not grace.expired:
            clock.sleep(0.02)
        patience = Deadline.after(GRACE_S, clock)
        while any(self._family()) and not patience.expired:
            self._signal(signal.SIGKILL)
            clock.sleep(0.02)
        with suppress(ChildProcessError):
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._family():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _family(self) -> Iterator[int]:
        """Living processes of the update: its session, and whoever inherited its environment."""
        self._process.poll()  # reaps our child, so that a zombie does not count
        mark = f"{_MARK}={self._mark}".encode()
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal() and self._belongs(entry.name, mark):
                yield int(entry.name)

    def _belongs(self, pid: str, mark: bytes) -> bool:
        with suppress(OSError):
            # After the last ")" come state, ppid, pgrp, session; the name may hold anything.
            fields = Path("/proc", pid, "stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] in (b"Z", b"X"):
                return False
            if int(fields[3]) == self._process.pid:
                return True
            return mark in Path("/proc", pid, "environ").read_bytes().split(b"\0")
        return False

    def _keep(self, output: Path) -> None:
        """Copy the output into its file up to the limit; go on reading, so nobody ever blocks."""
        assert self._process.stdout is not None
        left = OUTPUT_LIMIT_BYTES
        with self._process.stdout as source:
            try:
                with open(output, "wb", buffering=0, opener=_private) as file:
                    while left > 0 and (chunk := os.read(source.fileno(), 65536)):
                        file.write(chunk[:left])
                        left -= len(chunk)
                    if left <= 0:
                        file.write(b"\n... truncated by harness\n")
            except OSError:
                pass  # a full disk costs the record of the output, not the guests their resume
            while os.read(source.fileno(), 1 << 20):
                pass


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
