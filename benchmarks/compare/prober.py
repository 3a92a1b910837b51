"""A guest's downtime as its clients see it: ICMP echo every 20 ms, last good → first good."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK

INTERVAL_S = 0.020
_ECHO = 8
_REPLY = 0
_IDENTITY = 0x4842


class Prober:
    """Sends from one thread and listens in the same; root, for the raw socket."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._replies: dict[str, list[int]] = defaultdict(list)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._probe)

    def downtime_ms(self) -> float:
        """The longest silence of any guest, less the interval at which it was asked."""
        gaps = [
            later - earlier
            for stamps in self._replies.values()
            for earlier, later in zip(stamps, stamps[1:], strict=False)
        ]
        return max(0.0, max(gaps, default=0) / NS_PER_S - INTERVAL_S) * 1000

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _probe(self) -> None:
        due_ns, number = SYSTEM_CLOCK.monotonic_ns(), 0
        while not self._over.is_set():
            number += 1
            for address in self._addresses:
                with suppress(OSError):  # no room: a guest that is away does not take its probes
                    self._socket.sendto(_packet(number), (address, 0))
            due_ns += round(INTERVAL_S * NS_PER_S)
            while (left_s := (due_ns - SYSTEM_CLOCK.monotonic_ns()) / NS_PER_S) > 0:
                if select.select([self._socket], [], [], left_s)[0]:
                    self._hear()

    def _hear(self) -> None:
        packet, (address, _) = self._socket.recvfrom(2048)
        header = (packet[0] & 15) * 4
        kind, _, _, identity = struct.unpack_from("!BBHH", packet, header)
        if kind == _REPLY and identity == _IDENTITY:
            self._replies[address].append(SYSTEM_CLOCK.monotonic_ns())


def _packet(number: int) -> bytes:
    body = struct.pack("!BBHHH", _ECHO, 0, 0, _IDENTITY, number & 0xFFFF)
    total = sum(struct.unpack("!4H", body))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", _ECHO, 0, ~total & 0xFFFF, _IDENTITY, number & 0xFFFF)


@contextmanager
def probing(addresses: Sequence[str]) -> Iterator[Prober]:
    """Ask for the time of a ``with``."""
    prober = Prober(addresses)
    prober.start()
    try:
        yield prober
    finally:
        prober.stop()
