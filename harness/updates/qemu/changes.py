"""What is different about a guest whose QEMU was replaced, beside its QEMU. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from harness.host.parking import QemuLook


def changes(before: QemuLook, after: QemuLook) -> Iterator[str]:
    """Say what was cut off or renamed, and what libvirt holds against the guest since.

    Seen before the pause, and after the resume.
    """
    old, new = (ElementTree.fromstring(look.present) for look in (before, after))
    for display in old.iterfind("devices/graphics"):
        yield f"viewers of its {display.get('type', 'display')} display were cut off"
    yield from _terminals(old, new)
    yield from _interfaces(old, new)
    ids = old.findtext("genid"), new.findtext("genid")
    if ids[0] != ids[1]:
        yield f"it got a new VM generation id: {ids[0]} → {ids[1]}"
    for taint in after.tainted:
        if taint not in before.tainted:
            yield f"libvirt says: {taint}"


def _terminals(old: Element, new: Element) -> Iterator[str]:
    """A serial console is described twice; one pty is named once."""
    told = set()
    for kind in ("serial", "console"):
        pairs = zip(old.iterfind(f"devices/{kind}"), new.iterfind(f"devices/{kind}"), strict=False)
        for one, other in pairs:
            was, now = _pty(one), _pty(other)
            if was is None or was in told:
                continue
            told.add(was)
            renamed = f"; its pty is {now} now, not {was}" if was != now else ""
            yield f"viewers of its {kind} were disconnected{renamed}"


def _pty(terminal: Element) -> str | None:
    source = terminal.find("source")
    return source.get("path") if terminal.get("type") == "pty" and source is not None else None


def _interfaces(old: Element, new: Element) -> Iterator[str]:
    was, now = _devices(old), _devices(new)
    for address, device in was.items():
        if now.get(address, device) != device:
            yield f"its interface {address} is {now[address]} on the host now, not {device}"


def _devices(domain: Element) -> dict[str, str]:
    found = {}
    for interface in domain.iterfind("devices/interface"):
        address, target = interface.find("mac"), interface.find("target")
        if address is not None and target is not None:
            found[address.get("address", "")] = target.get("dev", "")
    return found
