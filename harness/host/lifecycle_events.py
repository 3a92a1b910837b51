"""libvirt's lifecycle events, received in a thread of their own.

libvirt has one event loop a process. It runs in one daemon thread until the process ends; nothing
slow happens in a callback: it stamps the monotonic clock and appends. It is stopped before the
interpreter is taken down, because a callback into an interpreter that is gone crashes.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import defaultdict
from typing import Any

import libvirt

from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.host.protocol import EventKind, LifecycleEvent
from harness.host.translate import translated

_KINDS = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: EventKind.STARTED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: EventKind.SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: EventKind.RESUMED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: EventKind.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: EventKind.CRASHED,
}
#: Keeps the loop turning now and then even when nothing happens, so that it sees new handles.
_TICK_MS = 1000

#: A callback that hangs must not keep the process from ending.
_STOP_S = 2.0

_lock = threading.Lock()
_loop: threading.Thread | None = None
_over = threading.Event()


def ensure_loop() -> None:
    """Start the process's event loop, once. Must come before the connection is opened."""
    global _loop
    with _lock:
        if _loop is None:
            with translated("starting the event loop"):
                libvirt.virEventRegisterDefaultImpl()
                libvirt.virEventAddTimeout(_TICK_MS, _tick, None)
                waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                libvirt.virEventAddHandle(waker, libvirt.VIR_EVENT_HANDLE_READABLE, _woken, None)
            atexit.register(_stop, waker)
            _loop = threading.Thread(target=_turn, name="libvirt events", daemon=True)
            _loop.start()


def _tick(timer: int, opaque: Any) -> None:
    """Nothing to do; see ``_TICK_MS``."""


def _woken(watch: int, fd: int, events: int, opaque: Any) -> None:
    """The loop turns once more, and sees that it is over."""


def _turn() -> None:
    while not _over.is_set():
        libvirt.virEventRunDefaultImpl()


def _stop(waker: int) -> None:
    _over.set()
    os.eventfd_write(waker, 1)
    if _loop is not None:
        _loop.join(_STOP_S)


class EventLog:
    """Every lifecycle event of every guest since the connection was opened."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._events: dict[str, list[LifecycleEvent]] = defaultdict(list)
        self.listening_since_ns = 0
        """CLOCK_MONOTONIC when the connection that listens now began to."""

    def listen(self, connection: libvirt.virConnect) -> int:
        """Register on a connection; returns libvirt's callback id."""
        with translated("registering for events"):
            callback = int(
                connection.domainEventRegisterAny(
                    None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._received, None
                )
            )
        self.listening_since_ns = self._clock.monotonic_ns()
        return callback

    def of(self, uuid: str) -> tuple[LifecycleEvent, ...]:
        """The events of one guest, oldest first."""
        return tuple(self._events.get(uuid, ()))

    def _received(
        self, connection: Any, domain: libvirt.virDomain, event: int, detail: int, opaque: Any
    ) -> None:
        # Runs in the event thread.
        at_ns = self._clock.monotonic_ns()
        uuid = domain.UUIDString()
        kind = _KINDS.get(event, EventKind.OTHER)
        self._events[uuid].append(LifecycleEvent(uuid, kind, str(detail), at_ns))
