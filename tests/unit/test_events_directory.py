"""Which guest asks: nobody can be somebody else."""

from __future__ import annotations

import asyncio
import struct
from types import SimpleNamespace

import pytest

from harness.errors import ConnectionLost
from harness.events.directory import BridgeDirectory, Caller, FixedDirectory, Known, Wire
from tests.fakes.clock import FakeClock

MAC = {"web1": "52:54:00:00:00:01", "web2": "52:54:00:00:00:02"}
TAP = {"web1": "vnet1", "web2": "vnet2"}
ADDRESS = {"web1": "192.168.1.11", "web2": "192.168.1.12"}


class Host:
    """The kernel's tables, as files, and libvirt's knowledge."""

    def __init__(self, folder):
        self.proc, self.sys = folder / "proc", folder / "sys"
        (self.proc / "net").mkdir(parents=True)
        self.bridge = self.sys / "class/net/br0"
        for number, tap in enumerate(TAP.values(), start=1):
            port = self.bridge / "brif" / tap
            port.mkdir(parents=True)
            (port / "port_no").write_text(f"0x{number:x}\n")
        self.arp = dict(zip(ADDRESS.values(), MAC.values(), strict=True))
        self.ports = {mac: number for number, mac in enumerate(MAC.values(), start=1)}
        self.leases = dict(self.arp)
        self.asked = 0
        self.fails = False
        self.clock = FakeClock()
        self.directory = BridgeDirectory(self.ask, Wire(self.proc, self.sys), self.clock)

    def ask(self):
        self.asked += 1
        if self.fails:
            raise ConnectionLost("gone", operation="x")
        guests = [
            SimpleNamespace(uuid=f"uuid-{name}", name=name, taps=((MAC[name], TAP[name]),))
            for name in MAC
        ]
        return Known(guests, self.leases)

    def find(self, address):
        lines = ["IP address       HW type     Flags       HW address            Mask     Device"]
        lines += [f"{a} 0x1 0x2 {mac} * br0" for a, mac in self.arp.items()]
        (self.proc / "net/arp").write_text("\n".join(lines) + "\n")
        entries = [
            struct.pack("<6sBBIBBH", bytes.fromhex(mac.replace(":", "")), port, 0, 1, 0, 0, 0)
            for mac, port in self.ports.items()
        ]
        own = struct.pack("<6sBBIBBH", bytes.fromhex("fe5400000001"), 1, 1, 1, 0, 0, 0)
        (self.bridge / "brforward").write_bytes(own + b"".join(entries))
        self.clock.advance(1)
        return asyncio.run(self.directory.find(address))


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_a_guest_is_who_is_plugged_in_there(host):
    """Address, MAC, port, lease: all say the same."""
    for name in MAC:
        assert host.find(ADDRESS[name]) == Caller(f"uuid-{name}", name)


def test_whoever_is_unknown_to_the_kernel_is_a_stranger(host):
    """Also the host itself; libvirt is not even asked."""
    assert host.find("192.168.1.99") is None
    assert host.asked == 0


def test_an_address_of_somebody_elses_lease_makes_a_stranger(host):
    """web2 says that web1's address is at its MAC."""
    host.arp[ADDRESS["web1"]] = MAC["web2"]
    assert host.find(ADDRESS["web1"]) is None
    assert host.find(ADDRESS["web2"]) == Caller("uuid-web2", "web2")


def test_a_mac_of_somebody_else_makes_a_stranger(host):
    """web2 sends with web1's MAC: it still comes in by web2's port."""
    host.ports[MAC["web1"]] = host.ports[MAC["web2"]]
    assert host.find(ADDRESS["web1"]) is None


def test_an_address_of_its_own_choice_needs_no_lease(host):
    """It speaks for the guest whose port and MAC it comes from, and for no other."""
    host.arp["10.9.9.9"] = MAC["web2"]
    assert host.find("10.9.9.9") == Caller("uuid-web2", "web2")


def test_what_is_no_bridge_knows_nobody(host):
    """A plain interface, or a bridge that is gone."""
    for file in (host.bridge / "brif").rglob("port_no"):
        file.unlink()
    assert host.find(ADDRESS["web1"]) is None


def test_strangers_do_not_make_us_ask_libvirt_again_and_again(host):
    """Once in two seconds at most; what was known stays known when libvirt is gone."""
    host.find(ADDRESS["web1"])
    host.arp["192.168.1.99"] = "52:54:00:00:00:99"
    host.ports["52:54:00:00:00:99"] = 2
    for _ in range(20):
        assert host.find("192.168.1.99") is None
    assert host.asked <= 11
    host.fails = True
    assert host.find("192.168.1.99") is None
    assert host.find(ADDRESS["web1"]) == Caller("uuid-web1", "web1")


def test_a_person_may_say_who_is_who():
    """For networks that are no bridge."""
    directory = FixedDirectory({"127.0.0.1": Caller("u", "web1")})
    assert asyncio.run(directory.find("127.0.0.1")) == Caller("u", "web1")
    assert asyncio.run(directory.find("127.0.0.2")) is None
