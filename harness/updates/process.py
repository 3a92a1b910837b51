"""One process tree of an update: started without a shell, watched without polling, ended for good.

Its output goes through a pipe into a file of limited size, so that neither a flood nor a full disk
holds the update, or us, up. Ending it reaches its session, whatever inherited its environment (a
daemon that left the session still carries ``HARNESS_UPDATE_ID``), and the children of those. What
escapes is written down in docs/adr/0004-ending-an-update.md.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.timebase import SYSTEM_CLOCK, Clock, Deadline

#: An update's output beyond this is thrown away, and the file says so.
OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024
#: Between TERM and KILL, and how long KILL is repeated for what is born meanwhile.
GRACE_S = 1.0
MARK = "HARNESS_UPDATE_ID"


class UpdateProcess:
    """A running update. Raises OSError if it cannot be started."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: Path,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, MARK: self._mark},
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
        # Rounded up: poll() counts whole milliseconds and 0 would not wait at all.
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

    def survivors(self, deadline: Deadline) -> frozenset[int]:
        """Wait for ``end`` to have done its work; the pids of what could not be ended."""
        if self._ender is not None:
            self._ender.join(timeout=deadline.remaining_s())
        return self._family()

    def _end(self) -> None:
        self._signal(signal.SIGTERM)
        grace = Deadline.after(GRACE_S, self._clock)
        while self._family() and not grace.expired:
            self._clock.sleep(0.02)
        patience = Deadline.after(GRACE_S, self._clock)
        while self._family() and not patience.expired:
            self._signal(signal.SIGKILL)
            self._clock.sleep(0.02)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._family():
            # What cannot be signalled (it has ended, it is another user's) stays in the family or
            # leaves it by itself; survivors() tells.
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _family(self) -> frozenset[int]:
        """Living processes of the update, and all their children."""
        self._process.poll()  # reaps our child, so that a zombie does not count
        mark = f"{MARK}={self._mark}".encode()
        living = {kin.pid: kin for kin in map(_read, os.listdir("/proc")) if kin}
        family = {
            pid
            for pid, kin in living.items()
            if kin.session == self._process.pid or mark in kin.environment
        }
        while born := {p for p, kin in living.items() if kin.parent in family} - family:
            family |= born
        return frozenset(family)

    def _keep(self, output: Path) -> None:
        """Copy the output into its file up to the limit; go on reading, so nobody ever blocks."""
        assert self._process.stdout is not None
        left = OUTPUT_LIMIT_BYTES
        with self._process.stdout as source:
            # A full disk costs the record of the output, not the guests their resume.
            with suppress(OSError), open(output, "wb", buffering=0, opener=_private) as file:
                while left > 0 and (chunk := os.read(source.fileno(), 65536)):
                    file.write(chunk[:left])
                    left -= len(chunk)
                if left <= 0:
                    file.write(b"\n... truncated by harness\n")
            while os.read(source.fileno(), 1 << 20):
                pass


@dataclass(frozen=True)
class _Kin:
    pid: int
    parent: int
    session: int
    environment: frozenset[bytes]


def _read(pid: str) -> _Kin | None:
    """A living process as /proc shows it; None if it has ended, or is a zombie, or no process."""
    if not pid.isdecimal():
        return None
    folder = Path("/proc", pid)
    try:
        # After the last ")" come state, ppid, pgrp, session; the name may hold anything.
        state, parent, _, session = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:4]
    except OSError:
        return None
    environment = b""
    with suppress(OSError):  # another user's: known by its session or its parent, if at all
        environment = (folder / "environ").read_bytes()
    if state in (b"Z", b"X"):
        return None
    return _Kin(int(pid), int(parent), int(session), frozenset(environment.split(b"\0")))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
