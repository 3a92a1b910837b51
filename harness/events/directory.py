"""Which guest asks: from the source address to the one guest whose packets they can be.

A guest can put any address and any MAC into its packets. What it cannot choose is the port of the
bridge they come in by. So: address → MAC (the kernel's ARP table) → port (the bridge's forwarding
table) → the guest that libvirt has plugged in there; that guest must own the MAC, and a DHCP lease
of the address for another MAC makes it a stranger.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import HarnessError
from harness.host.protocol import GuestInfo
from harness.timebase import NS_PER_S, SYSTEM_CLOCK, Clock

#: The kernel's tables are read again after this long.
_TABLES_NS = NS_PER_S // 5
#: libvirt is asked again at most this often, however many strangers knock.
_ASK_NS = 2 * NS_PER_S
_FORWARD = struct.Struct("<6sBBIBBH")
_COMPLETE = 0x2


@dataclass(frozen=True)
class Caller:
    """The guest behind a request."""

    uuid: str
    name: str


class Directory(Protocol):
    """Says who a source address is."""

    async def find(self, address: str) -> Caller | None:
        """The guest of that address; None for a stranger."""


class FixedDirectory:
    """Addresses that a person has given names; for networks that are no Linux bridge."""

    def __init__(self, guests: Mapping[str, Caller]) -> None:
        self._guests = guests

    async def find(self, address: str) -> Caller | None:
        """The guest of that address."""
        return self._guests.get(address)


@dataclass(frozen=True)
class Plugged:
    """Where a packet of an address came in."""

    mac: str
    port: str


class Wire:
    """The kernel's tables: who is where on which bridge; read from /proc and /sys."""

    def __init__(self, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self._proc = proc
        self._net = sys / "class/net"

    def look(self) -> dict[str, Plugged]:
        """Address → MAC and bridge port, for every address that is known on a bridge."""
        ports: dict[str, dict[str, str]] = {}
        found = {}
        for address, mac, device in self._neighbours():
            if device not in ports:
                ports[device] = self._ports(device)
            if mac in ports[device]:
                found[address] = Plugged(mac, ports[device][mac])
        return found

    def _neighbours(self) -> Iterator[tuple[str, str, str]]:
        lines = (self._proc / "net/arp").read_text().splitlines()[1:]
        for fields in map(str.split, lines):
            if len(fields) == 6 and int(fields[2], 16) & _COMPLETE:
                yield fields[0], fields[3].lower(), fields[5]

    def _ports(self, bridge: str) -> dict[str, str]:
        """MAC → name of the interface behind which the bridge has learnt it."""
        folder = self._net / bridge
        names: dict[int, str] = {}
        try:
            for port in (folder / "brif").iterdir():
                names[int((port / "port_no").read_text(), 16)] = port.name
            table = (folder / "brforward").read_bytes()
        except OSError:
            return {}  # no bridge, or it is gone
        found = {}
        for mac, low, local, _, high, _, _ in _FORWARD.iter_unpack(table):
            if not local and (low | high << 8) in names:
                found[mac.hex(":")] = names[low | high << 8]
        return found


@dataclass(frozen=True)
class Known:
    """What libvirt knows."""

    guests: Sequence[GuestInfo]
    leases: Mapping[str, str]
    """Address → MAC."""


class BridgeDirectory:
    """Guests on bridges of this host. ``ask`` is called in a thread and may take its time."""

    def __init__(
        self, ask: Callable[[], Known], wire: Wire | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._ask = ask
        self._wire = wire or Wire()
        self._clock = clock
        self._leases: Mapping[str, str] = {}
        self._callers: dict[Plugged, Caller] = {}
        self._plugged: dict[str, Plugged] = {}
        self._looked_ns = -_TABLES_NS
        self._asked_ns: int | None = None
        self._asking = asyncio.Lock()

    async def find(self, address: str) -> Caller | None:
        """The guest of that address, as of the last fifth of a second."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._looked_ns > _TABLES_NS:
            with suppress(OSError):
                self._plugged = self._wire.look()
            self._looked_ns = now_ns
        plugged = self._plugged.get(address)
        if plugged is None:
            return None
        found = self._match(address, plugged)
        if found is None and await self._learn():
            found = self._match(address, plugged)
        return found

    def _match(self, address: str, plugged: Plugged) -> Caller | None:
        if self._leases.get(address, plugged.mac) != plugged.mac:
            return None
        return self._callers.get(plugged)

    async def _learn(self) -> bool:
        """Ask libvirt again, unless that was done just now."""
        async with self._asking:
            now_ns = self._clock.monotonic_ns()
            if self._asked_ns is not None and now_ns - self._asked_ns < _ASK_NS:
                return True
            self._asked_ns = now_ns
            try:
                known = await asyncio.to_thread(self._ask)
            except HarnessError:
                return False  # what we knew is still the best that we know
            self._leases = known.leases
            self._callers = {
                Plugged(mac, tap): Caller(guest.uuid, guest.name)
                for guest in known.guests
                for mac, tap in guest.taps
            }
            return True
