"""Which guest asks: nobody can be somebody else."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.core.errors import ConnectionLost
from harness.core.timebase import NS_PER_S
from harness.events.callers import BridgeDirectory, Caller, FixedDirectory, Kernel, Known, Pin
from harness.testing.clock import FakeClock

MAC = {"web1": "52:54:00:00:00:01", "web2": "52:54:00:00:00:02"}
TAP = {"web1": "vnet1", "web2": "vnet2"}
ADDRESS = {"web1": "192.168.1.11", "web2": "192.168.1.12"}


class FakeKernel(Kernel):
    """Remembers what is pinned; every interface that is known is plugged into br0."""

    def __init__(self, left_behind=()):
        self.pinned = set(left_behind)
        self.remembered = list(left_behind)
        self.fails_for = set()
        self.bridges = dict.fromkeys(TAP.values(), "br0")

    def left_behind(self):
        return self.remembered

    def remember(self, pins):
        self.remembered = list(pins)

    def bridge_of(self, port):
        return self.bridges.get(port)

    def indexes(self, *devices):
        return ""

    def pin(self, pins):
        made = [pin for pin in pins if pin.port not in self.fails_for]
        self.pinned |= set(made)
        return made

    def unpin(self, pins):
        self.pinned -= set(pins)


class Host:
    """What libvirt says, and how often it was asked."""

    def __init__(self):
        self.taps = {name: ((MAC[name], TAP[name]),) for name in MAC}
        self.leases = {ADDRESS[name]: MAC[name] for name in MAC}
        self.asked = 0
        self.fails = False
        self.clock = FakeClock()
        self.kernel = FakeKernel()
        self.directory = BridgeDirectory(self.ask, self.kernel, self.clock)

    def ask(self):
        self.asked += 1
        if self.fails:
            raise ConnectionLost("gone", operation="x")
        guests = [
            SimpleNamespace(uuid=f"uuid-{name}", name=name, taps=taps)
            for name, taps in self.taps.items()
        ]
        return Known(cast(Any, guests), self.leases)

    def learn(self):
        self.clock.advance(3)
        self.directory.learn()
        self.clock.advance(3)

    def find(self, address, connected_ns=None):
        now_ns = self.clock.monotonic_ns() if connected_ns is None else connected_ns
        return asyncio.run(self.directory.find(address, now_ns))


@pytest.fixture
def host():
    found = Host()
    found.learn()
    return found


def test_a_guest_is_who_the_way_to_its_address_leads_to(host):
    """The lease's MAC, the port of the guest that has it: pinned in the kernel's tables."""
    for name in MAC:
        assert host.find(ADDRESS[name]) == Caller(f"uuid-{name}", name)
    assert Pin(ADDRESS["web1"], MAC["web1"], "br0", "vnet1") in host.kernel.pinned


def test_what_was_connected_before_the_way_was_pinned_is_a_strangers(host):
    """Then somebody else may have shaken hands; also when it asks again, later."""
    before_ns = host.clock.monotonic_ns() - 4 * NS_PER_S
    assert host.find(ADDRESS["web1"], before_ns) is None
    host.clock.advance(60)
    assert host.find(ADDRESS["web1"], before_ns) is None


def test_an_address_without_a_lease_is_a_strangers(host):
    """Whatever MAC it has: nothing says whose it is."""
    assert host.find("192.168.1.99") is None


def test_a_guest_that_moves_is_pinned_anew_and_its_old_connections_count_no_more(host):
    """It was started again: another tap."""
    connected_ns = host.clock.monotonic_ns()
    host.taps["web1"] = ((MAC["web1"], "vnet9"),)
    host.kernel.bridges["vnet9"] = "br0"
    host.learn()
    assert host.find(ADDRESS["web1"], connected_ns) is None
    assert host.find(ADDRESS["web1"]) == Caller("uuid-web1", "web1")
    assert {p.port for p in host.kernel.pinned} == {"vnet9", "vnet2"}


def test_a_guest_that_is_gone_leaves_no_pin(host):
    """Its address may be another guest's tomorrow."""
    del host.taps["web1"]
    host.learn()
    assert host.find(ADDRESS["web1"]) is None
    assert {p.port for p in host.kernel.pinned} == {"vnet2"}
    host.directory.close()
    assert host.kernel.pinned == set()


def test_a_guest_whose_lease_was_released_keeps_its_place_until_its_tap_goes(host):
    """A neighbour that borrows its MAC can have the lease released; its connections count on."""
    connected_ns = host.clock.monotonic_ns()
    del host.leases[ADDRESS["web1"]]
    host.learn()
    assert host.find(ADDRESS["web1"], connected_ns) == Caller("uuid-web1", "web1")
    host.taps["web1"] = ()
    host.learn()
    assert host.find(ADDRESS["web1"]) is None
    assert {p.port for p in host.kernel.pinned} == {"vnet2"}


def test_a_guest_keeps_its_place_from_a_neighbour_that_takes_its_address(host):
    """The neighbour is a stranger there, and itself at its own address."""
    assert host.find(ADDRESS["web1"])
    host.leases = {ADDRESS["web1"]: MAC["web2"], ADDRESS["web2"]: MAC["web2"]}
    host.learn()
    assert host.find(ADDRESS["web1"]) == Caller("uuid-web1", "web1")
    assert Pin(ADDRESS["web1"], MAC["web1"], "br0", "vnet1") in host.kernel.pinned
    assert host.find(ADDRESS["web2"]) == Caller("uuid-web2", "web2")
    host.taps["web1"] = ()
    host.learn()
    assert host.find(ADDRESS["web1"]) == Caller("uuid-web2", "web2")


def test_leases_that_a_neighbour_had_made_keep_no_address_from_others(host):
    """With a borrowed MAC it can ask for many addresses, but never shake hands from one."""
    borrowed = "192.168.1.13"
    host.leases[borrowed] = MAC["web1"]
    host.learn()
    host.leases[borrowed] = MAC["web2"]
    host.learn()
    assert host.find(borrowed) == Caller("uuid-web2", "web2")


def test_a_guest_whose_bridge_was_made_anew_is_pinned_anew(host):
    """The tap's name is not the tap: its number is another, or it is in another bridge."""
    del host.leases[ADDRESS["web1"]]
    host.kernel.bridges["vnet1"] = "br1"
    host.learn()
    assert host.find(ADDRESS["web1"]) is None


def test_what_could_not_be_pinned_is_a_strangers_until_it_can(host):
    """Not root, no such tool, or the interface was gone for a moment."""
    host.kernel.fails_for = {"vnet1"}
    host.taps["web1"] = ((MAC["web1"], "vnet1"), ("52:54:00:00:00:09", "vnet1"))
    host.leases["192.168.1.19"] = "52:54:00:00:00:09"
    host.learn()
    assert host.find("192.168.1.19") is None
    host.kernel.fails_for = set()
    host.learn()
    assert host.find("192.168.1.19") == Caller("uuid-web1", "web1")


def test_the_pins_of_a_server_that_was_killed_are_undone_by_the_next():
    """They are written down before they are made."""
    old = Pin(ADDRESS["web1"], MAC["web1"], "br9", "vnet9")
    kernel = FakeKernel([old])
    BridgeDirectory(lambda: Known([], {}), kernel, FakeClock())
    assert kernel.pinned == set()


def test_what_is_remembered_is_read_back_and_rubbish_is_not(tmp_path):
    """The file may be anything."""
    notes = tmp_path / "pins.json"
    kernel = Kernel(notes, tmp_path)
    pin = Pin(ADDRESS["web1"], MAC["web1"], "br0", "vnet1")
    assert kernel.left_behind() == []
    kernel.remember([pin])
    assert kernel.left_behind() == [pin]
    for rubbish in ("", "5", "[5]", "[[1]]", '[["a b", "", "", ""]]'):
        notes.write_text(rubbish)
        assert kernel.left_behind() == []


def test_two_guests_with_one_mac_are_both_strangers(host):
    """Neither can be told from the other."""
    host.taps["web2"] = ((MAC["web1"], "vnet2"),)
    host.learn()
    assert host.find(ADDRESS["web1"]) is None
    assert host.kernel.pinned == set()


def test_what_is_no_bridge_knows_nobody(host):
    """A network of another kind."""
    host.kernel.bridges.clear()
    host.learn()
    assert host.find(ADDRESS["web1"]) is None


def test_strangers_do_not_make_us_ask_libvirt_again_and_again(host):
    """Once in two seconds at most; what was known stays known when libvirt is gone."""
    asked = host.asked
    for _ in range(20):
        assert host.find("192.168.1.99") is None
        host.clock.advance(0.1)
    assert host.asked <= asked + 2
    host.fails = True
    host.learn()
    assert host.find(ADDRESS["web1"]) == Caller("uuid-web1", "web1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "192.168.1.11 dev lo"},
        {"address": "::1"},
        {"mac": "52:54:00:00:00:01\nlink set lo down"},
        {"mac": ""},
        {"bridge": "br0 x"},
        {"port": "../x"},
    ],
)
def test_only_data_reaches_the_kernel(wrong):
    """What ip and bridge read are lines; nothing of libvirt's can begin another."""
    good = {"address": "192.168.1.11", "mac": MAC["web1"], "bridge": "br0", "port": "vnet1"}
    assert Pin(**good).is_sound
    assert not Pin(**{**good, **wrong}).is_sound


def test_an_interface_is_looked_up_where_the_kernel_says(tmp_path):
    """And a name that leads elsewhere leads nowhere."""
    net = tmp_path / "class/net"
    (net / "br0/bridge").mkdir(parents=True)
    (net / "vnet1").mkdir()
    (net / "vnet1/master").symlink_to(net / "br0")
    kernel = Kernel(tmp_path / "pins.json", tmp_path)
    assert kernel.bridge_of("vnet1") == "br0"
    assert kernel.bridge_of("vnet2") is None
    assert kernel.bridge_of("../x") is None


def test_a_person_may_say_who_is_who():
    """For networks that are no bridge."""
    directory = FixedDirectory({"127.0.0.1": Caller("u", "web1")})
    assert asyncio.run(directory.find("127.0.0.1", 0)) == Caller("u", "web1")
    assert asyncio.run(directory.find("127.0.0.2", 0)) is None
