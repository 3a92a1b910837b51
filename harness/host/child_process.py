"""One process tree of an update: started without a shell, watched without polling, ended for good.

Its output goes through a pipe to the end of a file of limited size, so that neither a flood nor a
full disk holds the update, or us, up. Ending it ends its
:class:`~harness.host.process_family.Family`.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from harness.core.polling import readable
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.host.process_family import MARK, Family

#: An update's output beyond this is thrown away, and the file says so.
OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024


#: A service of the system has this one too; under that of a careful admin (077), packages and
#: modules would be installed so that only root can read them.
UMASK = 0o022


class StatusLost(Exception):
    """The process has ended, and the kernel does not know how any more."""


class UpdateProcess:
    """A running update, whose processes carry ``mark`` in their environment.

    Raises OSError if it cannot be started, StatusLost if it has ended and been reaped at once.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        mark: str,
        output: Path,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.program = command[0]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, MARK: mark},
            start_new_session=True,
            umask=UMASK,
        )
        self._family = Family(mark, self._process.pid, clock)
        self._reaping = threading.Lock()
        try:
            self._exit_fd = os.pidfd_open(self._process.pid)
        except ProcessLookupError as error:
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process.poll()  # it is not waited for again
            raise StatusLost from error
        self._reader = threading.Thread(target=self._keep, args=(output,), daemon=True)
        self._reader.start()
        self._ender: threading.Thread | None = None

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):
            os.close(self._exit_fd)

    def wait(self, deadline: Deadline) -> int | None:
        """Return its return code, at once when it ends; None if the deadline passes first.

        Raises StatusLost if something else has reaped it: SIGCHLD is ignored, or this process
        belongs to a program that waits for all its children. :mod:`subprocess` takes that for 0.
        """
        if not readable([self._exit_fd], deadline):
            return None
        # The last output may still be in the pipe; a daemon that holds it open is not waited for.
        self._reader.join(timeout=min(0.2, deadline.remaining_s()))
        with self._reaping:  # the ender does so too, and is no stranger who has taken the status
            if self._process.returncode is None:
                try:
                    os.waitid(os.P_PIDFD, self._exit_fd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                except ChildProcessError as error:
                    self._process.poll()  # it is not waited for again
                    raise StatusLost from error
            return self._process.wait()

    def end(self) -> None:
        """End everything of it, in the background: TERM, a grace, KILL. Returns at once."""
        if self._ender is None:
            end = partial(self._family.end, self._poll)
            self._ender = threading.Thread(target=end, name="update ender", daemon=True)
            self._ender.start()

    def survivors(self, deadline: Deadline) -> frozenset[int]:
        """Wait for ``end`` to have done its work; the pids of what could not be ended."""
        if self._ender is not None:
            self._ender.join(timeout=deadline.remaining_s())
        self._poll()
        return self._family.pids()

    def _poll(self) -> int | None:
        with self._reaping:
            return self._process.poll()

    def _keep(self, output: Path) -> None:
        """Copy the output into its file up to the limit; read on, so no writer ever blocks."""
        assert self._process.stdout is not None
        left = OUTPUT_LIMIT_BYTES
        with self._process.stdout as source:
            # A full disk costs the record of the output, not the guests their resume.
            with suppress(OSError), open(output, "ab", buffering=0, opener=_private) as file:
                while left > 0 and (chunk := os.read(source.fileno(), 65536)):
                    file.write(chunk[:left])
                    left -= len(chunk)
                if left <= 0:
                    file.write(b"\n... truncated by harness\n")
            while os.read(source.fileno(), 1 << 20):
                pass


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
