"""The lab's network: isolated, with DHCP that knows every guest beforehand."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from harness.core.errors import LabError
from harness.core.settings import METADATA_ADDRESS

Network = ipaddress.IPv4Network

#: libvirt passes options of this namespace on to dnsmasq.
_DNSMASQ = "http://libvirt.org/schemas/network/dnsmasq/1.0"
#: Where the lab looks for a free /24.
_CANDIDATES = ipaddress.IPv4Network("192.168.160.0/19")


def free_subnet(taken: Iterable[Network]) -> Network:
    """The first /24 that overlaps nothing of ``taken``. Raises LabError if there is none."""
    used = list(taken)
    for subnet in _CANDIDATES.subnets(new_prefix=24):
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    raise LabError(f"no free /24 left in {_CANDIDATES} for the lab's network")


def destinations(routes: Iterable[Mapping[str, Any]]) -> list[Network]:
    """Where ``routes`` (as ``ip -json -4 route`` prints them) lead, the default route left out."""
    found = (str(route.get("dst", "default")) for route in routes)
    return [ipaddress.IPv4Network(dst) for dst in found if dst[:1].isdigit()]


def host_address(subnet: Network, number: int) -> str:
    """The ``number``-th guest's address, counted from 0."""
    return str(subnet[10 + number])


def network_xml(
    name: str, bridge: str, subnet: Network, hosts: Mapping[str, str], *, metadata: bool = True
) -> str:
    """Return libvirt's description; ``hosts`` maps MAC → address. Nothing is forwarded anywhere.

    ``metadata``: the bridge carries the address of the metadata service too, and DHCP tells the
    guests the way there, as they have no default route.
    """
    network = Element("network")
    SubElement(network, "name").text = name
    SubElement(network, "bridge", name=bridge, stp="off", delay="0")
    ip = SubElement(network, "ip", address=str(subnet[1]), prefix=str(subnet.prefixlen))
    dhcp = SubElement(ip, "dhcp")
    SubElement(dhcp, "range", start=str(subnet[10]), end=str(subnet[250]))
    for mac, address in hosts.items():
        SubElement(dhcp, "host", mac=mac, ip=address)
    if metadata:
        SubElement(network, "ip", address=METADATA_ADDRESS, prefix="32")
        options = SubElement(network, f"{{{_DNSMASQ}}}options")
        route = f"dhcp-option=121,{METADATA_ADDRESS}/32,{subnet[1]}"
        SubElement(options, f"{{{_DNSMASQ}}}option", value=route)
    return ElementTree.tostring(network, encoding="unicode")
