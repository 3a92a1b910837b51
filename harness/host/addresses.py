"""Where a guest may be reached: what its agent, the leases and ARP say, and on which interface.

A guest whose card is a port of a bridge, or carries a macvlan, has its address on an interface with
another MAC, which libvirt knows nothing of: only the agent tells it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import Any

import libvirt

from harness.host.protocol import GuestAddress

_AGENT = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
#: In the order in which they are believed, with the origin shown for an address; {}: its interface.
SOURCES = {
    _AGENT: "guest agent, {}",
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE: "DHCP lease",
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP: "ARP",
}
#: Addresses of other interfaces in the guest: one with containers has very many.
_MOST_OTHERS = 8

Told = tuple[list[GuestAddress], list[GuestAddress]]


def told_by(source: int, interfaces: Mapping[str, Any], macs: Iterable[str]) -> Told:
    """Return the addresses of the guest's own ``macs``, and those of other interfaces in it.

    ``interfaces`` is what virDomain.interfaceAddresses returns for ``source``.
    """
    own: list[GuestAddress] = []
    others: list[GuestAddress] = []
    for name, interface in interfaces.items():
        known = (interface.get("hwaddr") or "").lower() in macs
        (own if known else others).extend(
            GuestAddress(entry["addr"], SOURCES[source].format(name))
            for entry in interface.get("addrs") or ()
            if _reachable(entry["addr"])
        )
    return own, others if source == _AGENT else []


def in_order(own: Iterable[GuestAddress], others: Iterable[GuestAddress]) -> list[GuestAddress]:
    """Return each address once, by its best source: ``own`` first, of ``others`` a few.

    Of the others none that this machine has itself: who answers there is no guest.
    """
    elsewhere = [one for one in others if not is_of_this_host(one.address)][:_MOST_OTHERS]
    found: dict[str, GuestAddress] = {}
    for one in (*own, *elsewhere):
        found.setdefault(one.address, one)
    return list(found.values())


def is_of_this_host(address: str) -> bool:
    """Return True if this machine has the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _reachable(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return not (ip.is_loopback or ip.is_link_local)
