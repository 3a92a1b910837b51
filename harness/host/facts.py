"""What a host and its guests say about themselves, read from libvirt's XML as data."""

from __future__ import annotations

import platform
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import libvirt

from harness.host.protocol import GuestInfo
from harness.host.states import reading
from harness.host.timekeeping import rtc_track, timekeeping
from harness.host.translate import translated

if TYPE_CHECKING:
    from harness.core.records import HostRecord

#: Namespace of ``<maintenance update-domain="0" availability-set="web"/>`` in ``<metadata>``.
MAINTENANCE_NAMESPACE = "urn:harness:maintenance:1"
_ACCELERATORS = {"kvm": "kvm", "qemu": "tcg", "test": "test"}


def guest_info(domain: libvirt.virDomain) -> GuestInfo:
    """Describe one guest. Raises GuestNotFound if it is gone by now."""
    with translated("reading a guest's description"):
        state, reason = domain.state()
        root = ElementTree.fromstring(domain.XMLDesc())
        name, uuid = domain.name(), domain.UUIDString()
        memory_kib = domain.maxMemory()
    maintenance = root.find(f"metadata/{{{MAINTENANCE_NAMESPACE}}}maintenance")
    labels = maintenance.attrib if maintenance is not None else {}
    return GuestInfo(
        name=name,
        uuid=uuid,
        state=reading(state, reason),
        accelerator=_ACCELERATORS.get(root.get("type", ""), root.get("type", "unknown")),
        rtc_track=rtc_track(root),
        timekeeping=timekeeping(root),
        memory_bytes=memory_kib * 1024,
        vcpus=int(root.findtext("vcpu", "1")),
        update_domain=labels.get("update-domain"),
        availability_set=labels.get("availability-set"),
        macs=macs(root),
        taps=tuple(_taps(root)),
    )


def macs(root: ElementTree.Element) -> tuple[str, ...]:
    """The MAC addresses of a guest's interfaces, lower case."""
    found = (mac.get("address") for mac in root.iterfind("devices/interface/mac"))
    return tuple(address.lower() for address in found if address)


def _taps(root: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for interface in root.iterfind("devices/interface"):
        mac, target = interface.find("mac"), interface.find("target")
        if mac is not None and target is not None:
            yield mac.get("address", "").lower(), target.get("dev", "")


def leases(connection: libvirt.virConnect) -> dict[str, str]:
    """Address → MAC of the DHCP leases of every active network."""
    found = {}
    with translated("reading DHCP leases"):
        for network in connection.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE):
            for lease in network.DHCPLeases():
                if lease.get("mac"):
                    found[lease["ipaddr"]] = lease["mac"].lower()
    return found


def host_record(connection: libvirt.virConnect, accelerator: str) -> HostRecord:
    """Describe the host behind a connection."""
    from harness.core.records import HostRecord  # not for the guardian, which stays small

    with translated("reading the host's description"):
        capabilities = ElementTree.fromstring(connection.getCapabilities())
        library = _version(connection.getLibVersion())
        hypervisor = f"{connection.getType()} {_version(connection.getVersion())}"
        hostname = connection.getHostname()
    local = hostname == socket.gethostname()
    return HostRecord(
        hostname=hostname,
        kernel=platform.release() if local else "unknown (remote)",
        libvirt=library,
        hypervisor=hypervisor,
        cpu=capabilities.findtext("host/cpu/model") or "unknown",
        accelerator=accelerator,
    )


def _version(number: int) -> str:
    """Return a version that libvirt packed as major·1000000 + minor·1000 + release."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
