"""Processes that outlive the command that starts them: the lab's daemons, the box's QEMU.

Known by pid and start time, so that another process finds them, and ends no other.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DeadlineExpired, MissingCapability
from harness.core.process_stat import is_same_process, start_ticks
from harness.core.timebase import Deadline, NotYet, wait_for

_STOP_S = 10.0
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_LOOK_S = 0.05
#: The number of a descriptor that a process is started with, beside the standard three.
_KEPT_OPEN = 3


@dataclass(frozen=True)
class Detached:
    """A process in a session of its own; pid and start time together name it and no other."""

    pid: int
    start_ticks: int

    def lives(self) -> bool:
        """Return True if it runs. One that has ended and is our child is reaped."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return is_same_process(self.pid, self.start_ticks)

    def end(self, what: str, *, at_once: bool = False) -> None:
        """End it: TERM, then KILL; ``at_once`` gives it no chance to write anything.

        Nothing is done if it has ended already. Raises DeadlineExpired if it cannot be ended.
        """
        if not at_once:
            with suppress(DeadlineExpired):
                return self._signal(signal.SIGTERM, what)
        return self._signal(signal.SIGKILL, what)

    def _signal(self, number: signal.Signals, what: str) -> None:
        def look() -> None:
            if self.lives():
                raise NotYet(f"pid {self.pid} is still there")

        if not self.lives():
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        wait_for(look, what=what, deadline=Deadline.after(_STOP_S), interval_s=_LOOK_S)


def start(
    words: Sequence[str], log: Path, *, truncate: bool = False, keep_open: int | None = None
) -> Detached:
    """Start a program that reads nothing and writes to ``log``.

    Args:
        words: the program, looked up in PATH, and its arguments.
        log: where its output goes; made with mode 0600.
        truncate: whether what ``log`` holds is thrown away first.
        keep_open: a descriptor that it inherits and holds open for as long as it lives.

    Raises:
        MissingCapability: the program is not installed.
    """
    program = shutil.which(words[0])
    if program is None:
        name = Path(words[0]).name
        raise MissingCapability(name, f"{name} is not installed", hint="make setup")
    output = os.open(log, _LOG_FLAGS | (os.O_TRUNC if truncate else 0), 0o600)
    try:
        # Not subprocess: it warns of a child that is left running.
        pid = os.posix_spawn(
            program,
            list(words),
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
                *([] if keep_open is None else [(os.POSIX_SPAWN_DUP2, keep_open, _KEPT_OPEN)]),
            ],
            setsid=True,
        )
    finally:
        os.close(output)
    return Detached(pid, start_ticks(pid))
