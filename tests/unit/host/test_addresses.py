"""Addresses of guests: their own cards first, then what the agent says of bridges in them."""

from __future__ import annotations

import libvirt
import pytest

from harness.host.addresses import in_order, is_of_this_host, told_by
from harness.host.protocol import GuestAddress

AGENT = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
LEASE = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE
ARP = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP
CARD = "52:54:00:00:00:01"


def interface(mac: str, *addresses: str):
    return {"hwaddr": mac, "addrs": [{"addr": one, "prefix": 24, "type": 0} for one in addresses]}


#: As an agent tells it of a guest whose card is a port of Open vSwitch; a macvlan, containers.
INSIDE = {
    "lo": interface("00:00:00:00:00:00", "127.0.0.1", "::1"),
    "eth0": interface(CARD.upper(), "fe80::1"),
    "br-ex": interface("aa:aa:aa:00:00:01", "192.0.2.10"),
    "macvlan0": interface("aa:aa:aa:00:00:02", "192.0.2.11"),
    "docker0": interface("aa:aa:aa:00:00:03", "198.51.100.1"),
    "down0": {"hwaddr": "aa:aa:aa:00:00:04", "addrs": None},
}


def test_the_address_of_a_bridge_in_the_guest_is_offered_with_its_origin():
    """The card itself has none: nothing else is known of this guest."""
    own, others = told_by(AGENT, INSIDE, (CARD,))
    assert own == []
    assert in_order(own, others)[:2] == [
        GuestAddress("192.0.2.10", "guest agent, br-ex"),
        GuestAddress("192.0.2.11", "guest agent, macvlan0"),
    ]


def test_what_belongs_to_the_guests_own_card_comes_first():
    """Whoever told it; each address once, by its best source."""
    inside = {**INSIDE, "eth0": interface(CARD, "192.0.2.20")}
    own, others = told_by(AGENT, inside, (CARD,))
    leased, none = told_by(LEASE, {"vnet0": interface(CARD, "192.0.2.20", "192.0.2.21")}, (CARD,))
    assert none == []
    assert [(one.address, one.origin) for one in in_order([*own, *leased], others)][:3] == [
        ("192.0.2.20", "guest agent, eth0"),
        ("192.0.2.21", "DHCP lease"),
        ("192.0.2.10", "guest agent, br-ex"),
    ]


@pytest.mark.parametrize("source", [LEASE, ARP])
def test_other_macs_are_believed_of_the_agent_only(source):
    """A lease or an ARP entry of another MAC is another machine's."""
    assert told_by(source, {"vnet0": interface("aa:aa:aa:00:00:01", "192.0.2.9")}, (CARD,)) == (
        [],
        [],
    )


def test_an_address_of_this_host_is_no_guests():
    """As of virbr0 or docker0, which are called alike on both."""
    here = GuestAddress("127.0.0.1", "guest agent, docker0")
    there = GuestAddress("192.0.2.10", "guest agent, br0")
    assert is_of_this_host("127.0.0.1")
    assert not is_of_this_host("192.0.2.10")
    assert in_order([], [here, there]) == [there]


def test_a_guest_full_of_containers_costs_no_more_than_a_few_attempts():
    """Eight, after its own."""
    others = [GuestAddress(f"192.0.2.{n}", "guest agent, veth") for n in range(1, 60)]
    assert len(in_order([GuestAddress("192.0.2.99", "ARP")], others)) == 9
