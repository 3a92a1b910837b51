"""Networks of libvirt's that guests are on: described by one kernel, started by the next.

One that is transient, or does not start by itself, ends with the kernel; without it no QEMU of its
guests starts.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from xml.etree import ElementTree

import libvirt

from harness.host.translate import translated

#: Where libvirt writes which dnsmasq is a network's.
DAEMONS = Path("/run/libvirt/network")
_PROC = Path("/proc")
_LAST, _AS_EVER = 19, 0


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


@contextmanager
def in_the_background(
    names: Iterable[str], daemons: Path = DAEMONS, proc: Path = _PROC
) -> Iterator[None]:
    """For a ``with``, have the networks' dnsmasq work after all other programs.

    At its start it has a program tell libvirt of each lease of before, while no guest runs that
    could ask for one. Never raises: one that stays in the background is slow, and no more.
    """
    found = [pid for name in names for pid in _family(daemons / f"{name}.pid", proc)]
    _be_nice(found, _LAST)
    try:
        yield
    finally:
        _be_nice(found, _AS_EVER)


def _family(file: Path, proc: Path) -> list[int]:
    """The process that a file names, and its children."""
    pids: list[int] = []
    with suppress(OSError, ValueError):
        pids.append(int(file.read_text()))
        for pid in pids:  # which grows
            children = (proc / f"{pid}/task/{pid}/children").read_text()
            pids += [int(one) for one in children.split()]
    return pids


def _be_nice(pids: Iterable[int], how: int) -> None:
    for pid in pids:
        with suppress(OSError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, pid, how)


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
