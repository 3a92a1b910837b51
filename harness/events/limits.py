"""What one guest may cost: requests a second, connections, bytes, and time to say what it wants."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock

REQUESTS_A_SECOND = 5
BODY_BYTES = 64 * 1024
HEAD_BYTES = 16 * 1024
CONNECTIONS_A_GUEST = 16
CONNECTIONS = 8192
#: From the first byte of a request (or the connection) to its last one.
REQUEST_S = 5.0
#: An idle connection; clients poll once a second to once a minute.
IDLE_S = 75


class RateLimit:
    """At most ``most`` requests of one guest in any second; 0: no limit."""

    def __init__(self, most: int = REQUESTS_A_SECOND, clock: Clock = SYSTEM_CLOCK) -> None:
        self._most = most
        self._clock = clock
        self._admitted: dict[str, deque[int]] = {}

    def admit(self, guest: str) -> bool:
        """Whether this request is still within the limit; a refused one does not count."""
        if self._most == 0:
            return True
        stamps = self._admitted.setdefault(guest, deque(maxlen=self._most))
        now_ns = self._clock.monotonic_ns()
        if len(stamps) == self._most and now_ns - stamps[0] < NS_PER_S:
            return False
        stamps.append(now_ns)
        return True


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP with limits that it lacks: on the head's size, on slowness, on connections.

    A connection beyond a limit is cut without an answer: it costs no more than that.
    """

    _connected: Counter[str] = Counter()
    _address = ""
    _head_bytes: int | None = 0
    """Bytes of the head so far; None: we are past it."""
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse a connection beyond what one address may hold."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self.app_state = {**self.app_state, "connected_ns": SYSTEM_CLOCK.monotonic_ns()}
        self._connected[self._address] += 1
        if (
            self._connected[self._address] > CONNECTIONS_A_GUEST
            or len(self.connections) > CONNECTIONS
        ):
            transport.abort()
            return
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection out."""
        self._stop_waiting()
        self._connected[self._address] -= 1
        if self._connected[self._address] <= 0:
            del self._connected[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Cut off a head that is too long."""
        if self._late is None:
            self._await_request()  # blank lines before a request begin none
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Expect the whole request within the time limit."""
        super().on_message_begin()
        if self._late is None:
            self._await_request()

    def on_headers_complete(self) -> None:
        """Stop counting the head."""
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request has come in time."""
        super().on_message_complete()
        self._stop_waiting()
        self._head_bytes = 0

    def _await_request(self) -> None:
        self._late = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


async def read_body(request: Any) -> bytes | None:
    """The body of a (Starlette) request; None if it is longer than BODY_BYTES."""
    if request.headers.get("content-length", "0").isdecimal() and (
        int(request.headers.get("content-length", "0")) > BODY_BYTES
    ):
        return None
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            return None
    return body
