"""Guests as people have them: many devices, two NUMA nodes, UEFI, a TPM.

The lab's own description of a guest is changed before it boots.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

#: QEMU's own user can reach it.
DATA = Path("/var/lib/libvirt/images/rich-data.img")
#: Of each of the two nodes.
NODE_MIB = 256

_DEVICES = f"""<devices>
<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' discard='unmap'/>
  <source file='{DATA}'/><target dev='vdb' bus='virtio'/><serial>data1</serial></disk>
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
<controller type='scsi' model='virtio-scsi'/>
<controller type='usb' model='qemu-xhci'/>
<input type='tablet' bus='usb'/>
<input type='keyboard' bus='virtio'/>
<interface type='network'><source network='NETWORK'/><model type='e1000e'/></interface>
<console type='pty'><target type='virtio'/></console>
<graphics type='vnc' autoport='yes' listen='127.0.0.1'/>
<video><model type='vga'/></video>
<watchdog model='i6300esb' action='none'/>
<sound model='ich9'/>
<memballoon model='virtio'/>
</devices>"""

_NUMA = f"""<cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model><numa>
<cell id='0' cpus='0' memory='{NODE_MIB}' unit='MiB'/>
<cell id='1' cpus='1' memory='{NODE_MIB}' unit='MiB'/></numa></cpu>"""

_TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
_PLAIN_BOOT = "<firmware><feature enabled='no' name='secure-boot'/></firmware>"

Change = Callable[[Element], None]


def rich(domain: Element) -> None:
    """Add a disk, CD-ROM, SCSI, USB, a NIC, console, VNC, balloon, an id, and NUMA nodes."""
    DATA.unlink(missing_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", str(DATA), "64M"], check=True)
    devices = _found(domain, "devices")
    network = _found(devices, "interface/source").get("network", "")
    for absent in ("memballoon", "controller[@type='usb']"):
        devices.remove(_found(devices, absent))
    devices.extend(ElementTree.fromstring(_DEVICES.replace("NETWORK", network)))
    SubElement(domain, "genid")
    _found(domain, "vcpu").text = "2"
    _found(domain, "memory").text = str(2 * NODE_MIB)
    for cpu in domain.findall("cpu"):
        domain.remove(cpu)
    domain.append(ElementTree.fromstring(_NUMA))


def efi_with_tpm(domain: Element) -> None:
    """Have it boot by UEFI, with its own variables, and see a TPM 2.0."""
    system = _found(domain, "os")
    system.set("firmware", "efi")
    system.append(ElementTree.fromstring(_PLAIN_BOOT))
    SubElement(_found(domain, "features"), "smm", state="off")
    _found(domain, "devices").append(ElementTree.fromstring(_TPM))


def can_efi_with_tpm() -> str:
    """Return what is missing here for :func:`efi_with_tpm`; "" if nothing is."""
    if not Path("/usr/share/qemu/firmware").is_dir():
        return "ovmf"
    return "" if shutil.which("swtpm_setup") else "swtpm-tools"


def _found(parent: Element, path: str) -> Element:
    element = parent.find(path)
    assert element is not None, path
    return element
