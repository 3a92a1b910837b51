"""The description by which libvirt starts the QEMU that takes over a guest. Pure.

It is the guest's own live description, with two changes that the guest does not see: which program
is QEMU, and a monitor that reads its first commands from a file.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from harness.host.start_commands import MONITOR, arguments

NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
_COMMAND_LINE, _ARG = (f"{{{NAMESPACE}}}{name}" for name in ("commandline", "arg"))


def successor(description: str, emulator: Path, commands: str) -> str:
    """Return the live ``description`` (XML) of a guest with ``emulator`` as its QEMU.

    ``commands`` is where that looks for its commands. What an earlier replacement has added is
    taken away; arguments of the owner stay as they are.
    """
    domain = _parsed(description)
    for named in domain.iterfind("devices/emulator"):  # a live description always has it
        named.text = str(emulator)
    found = domain.find(_COMMAND_LINE)
    line = SubElement(domain, _COMMAND_LINE) if found is None else found
    _take_ours(line)
    for value in arguments(commands):
        SubElement(line, _ARG, value=value)
    return ElementTree.tostring(domain, encoding="unicode")


def shared(description: str) -> str:
    """Return the live ``description`` (XML) of a guest, its RAM mapped so that it can be kept.

    libvirt then has QEMU make a file of it. Its source stays as it is, which libvirt insists on
    when a guest is restored by another description than it was saved by.
    """
    domain = _parsed(description)
    _child(_child(domain, "memoryBacking"), "access").set("mode", "shared")
    return ElementTree.tostring(domain, encoding="unicode")


def keepable(definition: str) -> str:
    """Return what a guest is booted by (XML), its RAM a shared file from its next boot on."""
    domain = _parsed(definition)
    backing = _child(domain, "memoryBacking")
    _child(backing, "source").set("type", "file")
    _child(backing, "access").set("mode", "shared")
    return ElementTree.tostring(domain, encoding="unicode")


def _parsed(text: str) -> Element:
    ElementTree.register_namespace("qemu", NAMESPACE)
    return ElementTree.fromstring(text)


def _child(parent: Element, name: str) -> Element:
    found = parent.find(name)
    return SubElement(parent, name) if found is None else found


def owners_arguments(description: str) -> tuple[str, ...]:
    """Return the arguments for QEMU in ``description`` that are not of an earlier replacement."""
    line = ElementTree.fromstring(description).find(_COMMAND_LINE)
    if line is None:
        return ()
    _take_ours(line)
    return tuple(arg.get("value", "") for arg in line.iterfind(_ARG))


def _take_ours(line: Element) -> None:
    """Remove each pair of option and value that names our monitor."""
    args = list(line.iterfind(_ARG))
    for option, value in zip(args, args[1:], strict=False):
        said = (option.get("value"), value.get("value", ""))
        ours = {"-chardev": f"pipe,id={MONITOR},", "-mon": f"chardev={MONITOR},"}
        prefix = ours.get(said[0] or "")
        if prefix is not None and said[1].startswith(prefix):
            line.remove(option)
            line.remove(value)
