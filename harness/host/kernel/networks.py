"""Networks of libvirt's that guests are on: described by one kernel, started by the next.

One that is transient, or does not start by itself, ends with the kernel; without it no QEMU of its
guests starts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from xml.etree import ElementTree

import libvirt

from harness.host.translate import translated


def networks_of(descriptions: Iterable[str]) -> frozenset[str]:
    """Return the networks that the guests of these descriptions (XML) are on."""
    found = (
        source.get("network", "")
        for text in descriptions
        for source in ElementTree.fromstring(text).iterfind("devices/interface/source")
    )
    return frozenset(one for one in found if one)


def describe(uri: str, names: Collection[str]) -> dict[str, str]:
    """Return how each network is made (XML), by name. Raises HypervisorError."""
    if not names:
        return {}
    with _connected(uri) as host, translated("describing networks"):
        return {
            name: str(host.networkLookupByName(name).XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE))
            for name in sorted(names)
        }


def start(uri: str, described: Mapping[str, str]) -> None:
    """Have every network run: one that is known is started, another made. Raises HypervisorError.

    One that runs already is left as it is.
    """
    if not described:
        return
    with _connected(uri) as host:
        for name, text in described.items():
            with translated(f"starting network {name}"):
                _start(host, name, text)


def _start(host: libvirt.virConnect, name: str, text: str) -> None:
    try:
        network = host.networkLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
            raise
        host.networkCreateXML(text)
        return
    if not network.isActive():
        network.create()


@contextmanager
def _connected(uri: str) -> Iterator[libvirt.virConnect]:
    with translated("connecting"):
        connection = libvirt.open(uri)
    try:
        yield connection
    finally:
        connection.close()
