"""Guardians in memory: one that repeats its orders, and the real loop in a thread."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from harness.core.errors import GuardianLost
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.guardian import Guardian
from harness.results.journal import Journal, Member


class FakeGuard:
    """``calls`` lists what it was asked; with ``silent`` it does not answer; ``die`` ends it.

    A Guard, and a context manager as ``run(guardian=…)`` wants it: ``lambda *_: FakeGuard()``.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.silent = False
        self.lost = False
        self.fd = os.eventfd(0)
        self.members: tuple[Member, ...] = ()

    def __enter__(self) -> FakeGuard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave it to be looked at."""

    def arm(self, limit_s: float, mark: str, members: Sequence[Member], patience_s: float) -> None:
        self.calls.append(f"arm {limit_s:g} {mark}")
        self.members = tuple(members)
        if self.silent:
            raise GuardianLost("the guardian does not answer, so nothing was paused")

    def disarm(self) -> None:
        self.calls.append("disarm")

    def die(self) -> None:
        self.lost = True
        os.eventfd_write(self.fd, 1)


def guardian_thread(
    hypervisor: Hypervisor, clock: Clock = SYSTEM_CLOCK
) -> Callable[[str, Path, socket.socket], Callable[[float], object]]:
    """Return what starts the real guardian's loop in a thread: ``launch`` of ``GuardianProcess``.

    ``hypervisor`` is its own connection. It ends when the run's end of the socket is closed.
    """

    def launch(uri: str, folder: Path, theirs: socket.socket) -> Callable[[float], object]:
        own = theirs.dup()

        def keep() -> None:
            with own, Journal(folder, folder.name, clock, joining=True) as journal:
                Guardian(hypervisor, journal, own, clock).keep()

        thread = threading.Thread(target=keep, name="guardian", daemon=True)
        thread.start()
        return thread.join

    return launch
