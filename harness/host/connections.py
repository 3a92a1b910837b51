"""Connections to one libvirt, each lent to one call at a time.

Calls of several threads on one connection are allowed, and crash the process now and then: where
two overlap, libvirt's client may go on using the stack of a thread that has left (seen with Debian
12's libvirt 9.0; it is what CVE-2024-4418 describes). A ping of the keep-alive that falls into a
call may do the same. So each call has a connection for itself, and only the one that listens for
events, on which there are no calls, is kept alive. See docs/adr/0015-connections.md.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import libvirt

from harness.core.errors import ConnectionLost, HypervisorError
from harness.core.socket_peers import remember
from harness.host.lifecycle_events import EventLog, ensure_loop
from harness.host.translate import translated

#: A libvirtd that stops answering is noticed after interval × (count + 1) seconds.
_KEEPALIVE_INTERVAL_S = 2
_KEEPALIVE_COUNT = 3


class Link:
    """A connection, and its handles of guests."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self.connection = connection
        self._handles: dict[str, libvirt.virDomain] = {}

    def guest(self, uuid: str) -> libvirt.virDomain:
        """A guest's handle. Raises GuestNotFound."""
        if uuid not in self._handles:
            with translated("looking up", uuid):
                self._handles[uuid] = self.connection.lookupByUUIDString(uuid)
        return self._handles[uuid]

    def forget(self, uuid: str) -> None:
        """The guest is gone; another may get its uuid."""
        self._handles.pop(uuid, None)

    @property
    def alive(self) -> bool:
        """As far as is known; a call may still find out that it is not."""
        with suppress(libvirt.libvirtError):
            return bool(self.connection.isAlive())
        return False

    def close(self) -> None:
        """Let go of it; it may be dead already."""
        self._handles.clear()
        with suppress(libvirt.libvirtError):
            self.connection.close()


class Connections:
    """Of one process to one libvirt; safe to use from several threads. Every call may block."""

    def __init__(self, uri: str, events: EventLog) -> None:
        self._uri = uri
        self._events = events
        self._lock = threading.Lock()
        self._listening_lock = threading.Lock()
        self._listening: Link | None = None
        self._shared = False
        self._idle: list[Link] = []
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[Link]:
        """A living connection for the time of a ``with``; events are listened for.

        Raises ConnectionLost. One on which the block raises ConnectionLost is not used again.
        """
        listening = self._listen()
        if self._shared:
            yield listening
            return
        link = self._take() or self._open()
        try:
            yield link
        except ConnectionLost:
            link.close()
            raise
        except BaseException:
            self._give_back(link)
            raise
        self._give_back(link)

    def ready(self, count: int) -> None:
        """Have ``count`` of them wait, so that none has to be made when time is short."""
        self._listen()
        if self._shared:
            return
        links = [self._take() or self._open() for _ in range(count)]
        for link in links:
            self._give_back(link)

    @property
    def listening(self) -> bool:
        """Whether the connection that listens for events is alive, as far as is known."""
        # Without the lock: who opens it again holds that for as long as libvirtd does not answer.
        link = self._listening
        return link is not None and link.alive

    def close(self) -> None:
        """Close all that are unused; what is in use is closed when it is given back."""
        with self._lock:
            self._closed = True
            links, self._idle = self._idle, []
            if self._listening is not None:
                links.append(self._listening)
        for link in links:
            link.close()

    def _listen(self) -> Link:
        """The connection that listens, opened again if it is dead: events may be lost meanwhile."""
        with self._listening_lock:
            if self._closed:
                raise HypervisorError("this connection was closed", operation="connecting")
            if self._listening is None or not self._listening.alive:
                if self._listening is not None:
                    self._listening.close()
                    self._listening = None
                self._listening = self._open_to_listen()
            return self._listening

    def _open_to_listen(self) -> Link:
        link = self._open()
        try:
            self._events.listen(link.connection)
            self._shared = not _keep_alive(link.connection)
        except BaseException:
            link.close()
            raise
        return link

    def _open(self) -> Link:
        ensure_loop()
        with translated("connecting"):
            link = Link(libvirt.open(self._uri))
        remember("libvirt")
        return link

    def _take(self) -> Link | None:
        """One that waits and is alive, if there is one."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                link = self._idle.pop()
            if link.alive:
                return link
            link.close()

    def _give_back(self, link: Link) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(link)
                return
        link.close()


def _keep_alive(connection: libvirt.virConnect) -> bool:
    """Return False for a driver in this process.

    It cannot go away, and each of its connections has guests of its own.
    """
    try:
        with translated("connecting"):
            connection.setKeepAlive(_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT)
    except HypervisorError as error:
        if error.code != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return False
    return True
