"""Which guest asks: from the source address to the one guest that can have shaken hands with it.

A guest can put any address and any MAC into what it sends, and tell the host by ARP that an
address is its own. What it cannot do is receive what goes to another port of the bridge, and
without that there is no TCP connection. So the host's way to each address is pinned: address → MAC
(neighbour table), MAC → port (forwarding table), as libvirt's leases and descriptions have it,
where no guest can change it. What then connects from an address is the guest behind that port.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.core.errors import HarnessError
from harness.core.files import write_atomically
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.host.protocol import GuestInfo

_log = logging.getLogger("harness.events")

#: libvirt is asked again at most this often, however many strangers knock.
_ASK_NS = 2 * NS_PER_S
#: What was connected up to this long after a pin may have been connected before it.
_SETTLE_NS = NS_PER_S
_IP_S = 20.0
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_DEVICE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True)
class Caller:
    """The guest behind a request."""

    uuid: str
    name: str


class Directory(Protocol):
    """Says who a source address is."""

    async def find(self, address: str, connected_ns: int) -> Caller | None:
        """The guest that connected from there at that time (CLOCK_MONOTONIC), or a stranger."""


class FixedDirectory:
    """Addresses that a person has given names; for networks that are no Linux bridge."""

    def __init__(self, guests: Mapping[str, Caller]) -> None:
        self._guests = guests

    async def find(self, address: str, connected_ns: int) -> Caller | None:
        """The guest of that address."""
        return self._guests.get(address)


@dataclass(frozen=True)
class Pin:
    """The host's way to an address."""

    address: str
    mac: str
    bridge: str
    port: str
    indexes: str = ""
    """Of bridge and port: a name may be given to another interface."""

    @property
    def is_sound(self) -> bool:
        """Whether it can be said to ``ip`` and ``bridge`` as data."""
        try:
            ipaddress.IPv4Address(self.address)
        except ValueError:
            return False
        devices = (self.bridge, self.port)
        return bool(_MAC.fullmatch(self.mac)) and all(map(_DEVICE.fullmatch, devices))


class Kernel:
    """Pins in the kernel's tables; written down, so that the next server finds a dead one's."""

    def __init__(self, notes: Path, sys: Path = Path("/sys")) -> None:
        self._notes = notes
        self._net = sys / "class/net"

    def bridge_of(self, port: str) -> str | None:
        """The bridge that an interface is plugged into."""
        if not _DEVICE.fullmatch(port):
            return None
        bridge = (self._net / port / "master").resolve().name
        return bridge if (self._net / bridge / "bridge").is_dir() else None

    def indexes(self, *devices: str) -> str:
        """The kernel's numbers of interfaces, which it does not give twice."""
        try:
            return "/".join((self._net / d / "ifindex").read_text().strip() for d in devices)
        except OSError:
            return "gone"

    def left_behind(self) -> list[Pin]:
        """The pins that were last remembered."""
        try:
            found = [Pin(*fields) for fields in json.loads(self._notes.read_text())]
        except (OSError, ValueError, TypeError):
            return []
        return [pin for pin in found if pin.is_sound]

    def remember(self, pins: Iterable[Pin]) -> None:
        """Write down which pins there are. Raises InfrastructureError."""
        write_atomically(self._notes, json.dumps([list(vars(pin).values()) for pin in pins]))

    def pin(self, pins: Sequence[Pin]) -> Sequence[Pin]:
        """Make them; returns those that were made: a guest may have gone meanwhile."""
        if self._pin(pins):
            return pins
        return [pin for pin in pins if self._pin([pin])]

    def _pin(self, pins: Sequence[Pin]) -> bool:
        # Sticky, because else a frame with that MAC from another port would move it there.
        ports = [f"fdb replace {p.mac} dev {p.port} master static sticky" for p in pins]
        ways = [
            f"neigh replace {p.address} lladdr {p.mac} dev {p.bridge} nud permanent" for p in pins
        ]
        return _batch("bridge", ports) and _batch("ip", ways)

    def unpin(self, pins: Sequence[Pin]) -> None:
        """Leave it to the kernel again: a later guest may have the address."""
        _batch("ip", [f"neigh del {p.address} dev {p.bridge}" for p in pins])
        # Back to an entry that is learnt and ages.
        _batch("bridge", [f"fdb del {p.mac} dev {p.port} master" for p in pins])


def _batch(program: str, lines: Sequence[str]) -> bool:
    """Have a program of iproute2 do every line; whether all went well."""
    if not lines:
        return True
    try:
        done = subprocess.run(
            [program, "-force", "-batch", "-"],
            input="".join(f"{line}\n" for line in lines).encode(),
            capture_output=True,
            timeout=_IP_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@dataclass(frozen=True)
class Known:
    """What libvirt, and the configuration, know."""

    guests: Sequence[GuestInfo]
    addresses: Mapping[str, str]
    """Address → MAC: DHCP leases, and addresses that a person has configured."""


@dataclass(frozen=True)
class _Entry:
    caller: Caller
    since_ns: int


class BridgeDirectory:
    """Guests on bridges of this host. ``ask`` is called in threads and may take its time."""

    def __init__(
        self, ask: Callable[[], Known], kernel: Kernel, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._ask = ask
        self._kernel = kernel
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._pins: dict[str, Pin] = {}
        self._met: set[str] = set()
        """Addresses at which their guest was answered: it has shaken hands by that way."""
        self._asked_ns: int | None = None
        self._learning = threading.Lock()
        kernel.unpin(kernel.left_behind())

    async def find(self, address: str, connected_ns: int) -> Caller | None:
        """The guest of that address, if the way to it was pinned before it connected."""
        entry = self._entries.get(address)
        if entry is None:
            # Not for this request: it was connected before anything was pinned. For the next.
            await asyncio.to_thread(self.learn)
            return None
        if connected_ns - entry.since_ns <= _SETTLE_NS:
            return None
        self._met.add(address)
        return entry.caller

    def learn(self) -> None:
        """Ask libvirt again, unless that was done just now; pin what is new, let go what is gone.

        Called for strangers, and now and then. What libvirt cannot say stays as it was.
        """
        with self._learning:
            now_ns = self._clock.monotonic_ns()
            if self._asked_ns is not None and now_ns - self._asked_ns < _ASK_NS:
                return
            self._asked_ns = now_ns
            try:
                self._pin_all(self._ask())
            except HarnessError as error:
                _log.warning("%s", error)

    def _pin_all(self, known: Known) -> None:
        found = {pin.address: (pin, caller) for pin, caller in self._ways(known)}
        found.update(self._kept(known, found))
        gone = [p for a, p in self._pins.items() if a not in found or found[a][0] != p]
        new = [pin for a, (pin, _) in found.items() if self._pins.get(a) != pin]
        for pin in gone:
            self._entries.pop(pin.address, None)
            self._met.discard(pin.address)
        for address, (_, caller) in found.items():
            entry = self._entries.get(address)
            if entry is not None and entry.caller != caller:
                self._entries[address] = _Entry(caller, self._clock.monotonic_ns())
        if not (gone or new):
            return
        self._kernel.remember({*self._pins.values(), *new})
        self._kernel.unpin(gone)
        made = self._kernel.pin(new)
        since_ns = self._clock.monotonic_ns()
        for pin in gone:
            self._pins.pop(pin.address, None)
        for pin in made:
            self._pins[pin.address] = pin
            self._entries[pin.address] = _Entry(found[pin.address][1], since_ns)

    def close(self) -> None:
        """Undo every pin."""
        with self._learning:
            self._entries.clear()
            self._kernel.unpin(list(self._pins.values()))
            self._pins.clear()
            self._kernel.remember(())

    def _ways(self, known: Known) -> Iterator[tuple[Pin, Caller]]:
        for mac, tap, guest in _taps(known):
            for address, its_mac in known.addresses.items():
                pin = self._way(address, mac, tap) if its_mac == mac else None
                if pin is not None:
                    yield pin, Caller(guest.uuid, guest.name)

    def _kept(
        self, known: Known, found: Mapping[str, tuple[Pin, Caller]]
    ) -> dict[str, tuple[Pin, Caller]]:
        """Pins whose lease is gone, but whose guest is not: it keeps its place with its tap.

        A neighbour can borrow the guest's MAC and release its lease, or take the address for
        itself. It goes to the neighbour only if the guest was never answered: one that borrows
        a MAC can have leases made for it, but cannot shake hands.
        """
        kept = {}
        for mac, tap, guest in _taps(known):
            for address, pin in self._pins.items():
                mine = (pin.mac, pin.port) == (mac, tap) and pin == self._way(address, mac, tap)
                if mine and (address in self._met or address not in found):
                    kept[address] = (pin, Caller(guest.uuid, guest.name))
        return kept

    def _way(self, address: str, mac: str, tap: str) -> Pin | None:
        """The way to an address as it is now; None if there is none."""
        bridge = self._kernel.bridge_of(tap)
        if bridge is None:
            return None
        pin = Pin(address, mac, bridge, tap, self._kernel.indexes(bridge, tap))
        return pin if pin.is_sound else None


def _taps(known: Known) -> list[tuple[str, str, GuestInfo]]:
    """MAC, tap and guest; of two guests with one MAC neither can be told from the other."""
    taps = [(mac, tap, guest) for guest in known.guests for mac, tap in guest.taps]
    owners = Counter(mac for mac, _, _ in taps)
    return [one for one in taps if owners[one[0]] == 1]
