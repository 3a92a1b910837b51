"""The description of the QEMU that takes over: everything the guest sees stays as it is."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from harness.updates.qemu.successor import NAMESPACE, owners_arguments, successor

LIVE = """
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>a; touch x &lt;&amp;&gt;'"</name><uuid>1</uuid><memory unit='KiB'>131072</memory>
  <metadata><m:maintenance xmlns:m='urn:harness:maintenance:1' update-domain='0'/></metadata>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
  <graphics type='vnc' passwd='secret'/></devices>
  <qemu:commandline><qemu:arg value='-chardev'/><qemu:arg value='null,id=mine'/>
  <qemu:env name='QEMU_AUDIO_DRV' value='none'/></qemu:commandline>
</domain>
"""
EMULATOR = Path("/opt/qemu/bin/qemu-system-x86_64")


def words(xml: str) -> list[str]:
    root = ElementTree.fromstring(xml)
    return [arg.get("value") for arg in root.iterfind(f"{{{NAMESPACE}}}commandline/{{*}}arg")]


def but_for_ours(xml: str) -> str:
    """Canonical, without what a replacement changes."""
    root = ElementTree.fromstring(xml)
    root.find("devices/emulator").text = ""
    line = root.find(f"{{{NAMESPACE}}}commandline")
    for arg in list(line.iterfind("{*}arg"))[2:]:
        line.remove(arg)
    return ElementTree.canonicalize(ElementTree.tostring(root), strip_text=True)


def test_only_the_program_and_its_monitor_change():
    """Name, metadata, secrets and the owner's own arguments are as they were."""
    xml = successor(LIVE, EMULATOR, "/commands/1")
    assert but_for_ours(xml) == but_for_ours(LIVE)
    assert ElementTree.fromstring(xml).findtext("devices/emulator") == str(EMULATOR)
    assert words(xml) == [
        *("-chardev", "null,id=mine"),
        *("-chardev", "pipe,id=harness,path=/commands/1"),
        *("-mon", "chardev=harness,mode=control"),
    ]


def test_a_second_replacement_adds_nothing_to_the_first():
    """What it added is taken away first."""
    once = successor(LIVE, EMULATOR, "/commands/1")
    assert words(successor(once, EMULATOR, "/commands/1")) == words(once)


def test_a_guest_without_arguments_gets_ours_alone():
    """In the namespace that libvirt reads."""
    plain = "<domain type='qemu'><devices><emulator>x</emulator></devices></domain>"
    xml = successor(plain, EMULATOR, "/commands/1")
    assert len(words(xml)) == 4
    assert "<qemu:commandline" in xml


def test_the_owners_arguments_are_told_from_ours():
    """For a remark at plan time."""
    assert owners_arguments(successor(LIVE, EMULATOR, "/c")) == ("-chardev", "null,id=mine")
    assert owners_arguments("<domain/>") == ()
