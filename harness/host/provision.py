"""Makes and removes the lab's own networks and guests; nothing else in the program may.

Everything is transient: libvirt forgets it when it ends, and so does a reboot.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree

import libvirt

from harness.core.errors import GuestNotFound, HypervisorError
from harness.host.translate import translated


class Provisioner:
    """A connection for making and removing lab guests."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, uri: str) -> Iterator[Provisioner]:
        """Connect for the time of a ``with``. Raises ConnectionLost."""
        with translated("connecting"):
            connection = libvirt.open(uri)
        try:
            yield cls(connection)
        finally:
            connection.close()

    def create_network(self, xml: str) -> None:
        """Make and start a transient network."""
        with translated("making the lab's network"):
            self._connection.networkCreateXML(xml)

    def create_guest(self, xml: str, name: str) -> None:
        """Make and start a transient guest."""
        with translated("starting", name):
            self._connection.createXML(xml)

    def destroy_guest(self, uuid: str) -> None:
        """End a guest at once; one that is gone already is fine."""
        try:
            with translated("ending a guest"):
                self._connection.lookupByUUIDString(uuid).destroy()
        except GuestNotFound:
            return

    def is_there(self, uuid: str) -> bool:
        """Whether a transient guest is still there: it is gone when it has ended."""
        try:
            with translated("looking for a guest"):
                self._connection.lookupByUUIDString(uuid)
        except GuestNotFound:
            return False
        return True

    def destroy_network(self, name: str) -> None:
        """Remove a network; one that is gone already is fine."""
        try:
            with translated("removing the lab's network"):
                self._connection.networkLookupByName(name).destroy()
        except HypervisorError as error:
            if error.code != libvirt.VIR_ERR_NO_NETWORK:
                raise

    def guest_names(self) -> set[str]:
        """Every guest there is, running or not."""
        with translated("listing guests"):
            return {domain.name() for domain in self._connection.listAllDomains()}

    def subnets(self) -> list[ipaddress.IPv4Network]:
        """The IPv4 subnets of libvirt's networks."""
        with translated("listing networks"):
            descriptions = [network.XMLDesc() for network in self._connection.listAllNetworks()]
        found = []
        for description in descriptions:
            for ip in ElementTree.fromstring(description).iterfind("ip"):
                if ip.get("family", "ipv4") == "ipv4" and ip.get("address"):
                    mask = ip.get("prefix") or ip.get("netmask") or "32"
                    text = f"{ip.get('address')}/{mask}"
                    found.append(ipaddress.IPv4Network(text, strict=False))
        return found
