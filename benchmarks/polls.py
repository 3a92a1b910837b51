"""Many guests that ask for events, each from an address of its own and by a connection of its own.

Each poll has an instant it is due at, whatever became of those before: its time counts from there,
so that a server that falls behind is seen to (no coordinated omission).
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline

#: What a poll may take before it counts as not answered.
_PATIENCE_S = 20.0
_LOOK_S = 0.01


@dataclass
class Polled:
    """Seconds of each poll that was answered by 200, and how many were not."""

    times_s: list[float] = field(default_factory=list)
    refused: int = 0


@dataclass
class _Poll:
    connection: socket.socket
    due_ns: int
    answer: bytes = b""


def poll(port: int, addresses: Sequence[str], path: str, *, rate: int, seconds: float) -> Polled:
    """Ask ``rate`` times a second, one address after the other, for so many seconds."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nMetadata: true\r\nConnection: close\r\n\r\n"
    ).encode()
    polled = Polled()
    began_ns = SYSTEM_CLOCK.monotonic_ns()
    due = _due(began_ns, addresses, rate, round(rate * seconds))
    waiting = next(due, None)
    until = Deadline.after(seconds + _PATIENCE_S)
    with selectors.EpollSelector() as selector:
        while (waiting is not None or selector.get_map()) and not until.expired:
            while waiting is not None and waiting[0] <= SYSTEM_CLOCK.monotonic_ns():
                _begin(selector, port, *waiting)
                waiting = next(due, None)
            for key, events in selector.select(_until(waiting)):
                _go_on(selector, key.data, events, request, polled)
        for key in list(selector.get_map().values()):
            polled.refused += 1
            key.data.connection.close()
    return polled


def _due(
    began_ns: int, addresses: Sequence[str], rate: int, polls: int
) -> Iterator[tuple[int, str]]:
    for number in range(polls):
        yield began_ns + number * NS_PER_S // rate, addresses[number % len(addresses)]


def _until(waiting: tuple[int, str] | None) -> float:
    if waiting is None:
        return _LOOK_S
    return max(0.0, (waiting[0] - SYSTEM_CLOCK.monotonic_ns()) / NS_PER_S)


def _begin(selector: selectors.BaseSelector, port: int, due_ns: int, address: str) -> None:
    connection = socket.socket()
    connection.setblocking(False)
    connection.bind((address, 0))
    connection.connect_ex(("127.0.0.1", port))
    selector.register(connection, selectors.EVENT_WRITE, _Poll(connection, due_ns))


def _go_on(
    selector: selectors.BaseSelector, one: _Poll, events: int, request: bytes, polled: Polled
) -> None:
    try:
        if events & selectors.EVENT_WRITE:
            one.connection.sendall(request)
            selector.modify(one.connection, selectors.EVENT_READ, one)
            return
        piece = one.connection.recv(65536)
    except OSError:
        one.answer, piece = b"", b""
    one.answer += piece
    if piece:
        return
    selector.unregister(one.connection)
    one.connection.close()
    if one.answer.startswith(b"HTTP/1.1 200 "):
        polled.times_s.append((SYSTEM_CLOCK.monotonic_ns() - one.due_ns) / NS_PER_S)
    else:
        polled.refused += 1
