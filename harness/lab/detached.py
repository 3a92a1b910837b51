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

from harness.core.background import start_in_background
from harness.core.errors import DeadlineExpired, MissingCapability
from harness.core.process_stat import is_same_process, start_ticks
from harness.core.timebase import Deadline, NotYet, wait_for

_STOP_S = 10.0
_LOOK_S = 0.05
#: That of a service, whatever ours: dnsmasq's and QEMU's own users read files that libvirtd writes.
_UMASK = 0o022


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
    """Start a program that reads nothing and writes to ``log``, with the umask of a service.

    Args:
        words: the program, looked up in PATH, and its arguments.
        log: where its output goes; made with mode 0600.
        truncate: whether what ``log`` holds is thrown away first.
        keep_open: a descriptor that it inherits and holds open for as long as it lives.

    Raises:
        MissingCapability: the program is not installed.
    """
    if shutil.which(words[0]) is None:
        name = Path(words[0]).name
        raise MissingCapability(name, f"{name} is not installed", hint="make setup")
    keep = [] if keep_open is None else [keep_open]
    process = start_in_background(words, log, append=not truncate, keep=keep, umask=_UMASK)
    return Detached(process.pid, start_ticks(process.pid))
