"""All processes of one update, also those that left its session, and how they are ended.

What belongs: a session, whatever carries a mark in its environment (a daemon that left the session
still does), and the children of those. What does not belong: a libvirtd that we are connected to,
and its children; the update may have restarted it, and no other process can resume guests. What
escapes is written down in docs/adr/0004-ending-an-update.md.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from harness.core import socket_peers
from harness.core.process_stat import PROC, read_stat
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline

#: Between TERM and KILL, and how long KILL is repeated for what is born meanwhile.
GRACE_S = 1.0
MARK = "HARNESS_UPDATE_ID"


class Family:
    """The processes that carry ``HARNESS_UPDATE_ID=mark``, or are of ``session``."""

    def __init__(
        self,
        mark: str,
        session: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
        peers: Callable[[], frozenset[int]] = socket_peers.peers,
    ) -> None:
        """``peers`` tells the pids of processes that are spared, with all their children."""
        self._mark = f"{MARK}={mark}".encode()
        self._session = session
        self._clock = clock
        self._peers = peers

    def pids(self) -> frozenset[int]:
        """Return the pids of its processes that live now."""
        return self._living_but(self._peers())

    def _living_but(self, peers: frozenset[int]) -> frozenset[int]:
        living = {kin.pid: kin for kin in map(_read, os.listdir(PROC)) if kin}
        family = _with_children(
            living,
            (
                pid
                for pid, kin in living.items()
                if kin.session == self._session or self._mark in kin.environment
            ),
        )
        # Not the children of every peer: where systemd activates libvirtd, that is process 1.
        return family - _with_children(living, family & peers)

    def end(self, reap: Callable[[], object] = lambda: None) -> None:
        """TERM, a grace, KILL, repeated for what is born meanwhile.

        ``reap`` is called before each look, so that a child's zombie is not waited for.
        """
        peers = self._peers()
        self._signal(signal.SIGTERM, peers)
        self._wait(reap, peers, again=None)
        self._wait(reap, self._peers(), again=signal.SIGKILL)

    def _wait(
        self, reap: Callable[[], object], peers: frozenset[int], again: signal.Signals | None
    ) -> None:
        deadline = Deadline.after(GRACE_S, self._clock)
        reap()
        while self._living_but(peers) and not deadline.expired:
            if again is not None:
                self._signal(again, peers)
            self._clock.sleep(0.02)
            reap()

    def _signal(self, number: signal.Signals, peers: frozenset[int]) -> None:
        for pid in self._living_but(peers):
            # What cannot be signalled (it has ended, it is another user's) stays in the family or
            # leaves it by itself; a caller that asks for the pids afterwards sees that.
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


@dataclass(frozen=True)
class _Kin:
    pid: int
    parent: int
    session: int
    environment: frozenset[bytes]


def _with_children(living: Mapping[int, _Kin], pids: Iterable[int]) -> frozenset[int]:
    """``pids`` with everything that descends from them."""
    family = set(pids)
    while born := {p for p, kin in living.items() if kin.parent in family} - family:
        family |= born
    return frozenset(family)


def _read(pid: str) -> _Kin | None:
    """A living process as /proc shows it; None if it has ended, or is a zombie, or no process."""
    if not pid.isdecimal():
        return None
    try:
        stat = read_stat(int(pid))
    except OSError:
        return None
    environment = b""
    with suppress(OSError):  # another user's: known by its session or its parent, if at all
        environment = (PROC / pid / "environ").read_bytes()
    if stat.state in "ZX":
        return None
    return _Kin(stat.pid, stat.parent, stat.session, frozenset(environment.split(b"\0")))
