"""A lab guest as libvirt's domain XML, made with an XML library: names stay data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from harness.host.facts import MAINTENANCE_NAMESPACE
from harness.lab.specs import GuestSpec

_DOMAIN_TYPES = {"kvm": "kvm", "tcg": "qemu"}


@dataclass(frozen=True)
class BootFiles:
    """What QEMU is given; all of it is readable by QEMU's own user."""

    serial_log: Path
    kernel: Path | None = None
    initrd: Path | None = None
    disk: Path | None = None
    seed: Path | None = None


def domain_xml(spec: GuestSpec, files: BootFiles, network: str, accelerator: str) -> str:
    """The description of a transient guest; ``accelerator`` is ``kvm`` or ``tcg``."""
    domain = Element("domain", type=_DOMAIN_TYPES[accelerator])
    SubElement(domain, "name").text = spec.name
    SubElement(domain, "uuid").text = spec.uuid
    _metadata(domain, spec)
    SubElement(domain, "memory", unit="MiB").text = str(spec.memory)
    if spec.resident:
        backing = SubElement(domain, "memoryBacking")
        SubElement(backing, "source", type="file")
        SubElement(backing, "access", mode="shared")
    SubElement(domain, "vcpu").text = "1"
    _boot(domain, files)
    SubElement(SubElement(domain, "features"), "acpi")
    if accelerator == "kvm":
        SubElement(domain, "cpu", mode="host-passthrough")
    elif not files.kernel:
        # Some cloud images want more than QEMU's default CPU: RHEL 9's glibc wants x86-64-v2.
        SubElement(domain, "cpu", mode="maximum")
    clock = SubElement(domain, "clock", offset="utc")
    SubElement(clock, "timer", name="rtc", track=spec.rtc_track)
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        SubElement(domain, event).text = "destroy"
    _devices(domain, spec, files, network)
    return ElementTree.tostring(domain, encoding="unicode")


def _metadata(domain: Element, spec: GuestSpec) -> None:
    labels = {"update-domain": spec.update_domain}
    if spec.availability_set is not None:
        labels["availability-set"] = spec.availability_set
    SubElement(SubElement(domain, "metadata"), f"{{{MAINTENANCE_NAMESPACE}}}maintenance", labels)


def _boot(domain: Element, files: BootFiles) -> None:
    system = SubElement(domain, "os")
    SubElement(system, "type", arch="x86_64", machine="q35").text = "hvm"
    if files.kernel:
        SubElement(system, "kernel").text = str(files.kernel)
        SubElement(system, "initrd").text = str(files.initrd)
        SubElement(system, "cmdline").text = "console=ttyS0 quiet"


def _devices(domain: Element, spec: GuestSpec, files: BootFiles, network: str) -> None:
    devices = SubElement(domain, "devices")
    if files.disk:
        _disk(devices, files.disk, "qcow2", "vda", "virtio")
    if files.seed:
        # No CD-ROM: the kernels of slim cloud images (Debian's genericcloud) have no AHCI driver.
        SubElement(_disk(devices, files.seed, "raw", "vdb", "virtio"), "readonly")
    interface = SubElement(devices, "interface", type="network")
    SubElement(interface, "mac", address=spec.mac)
    SubElement(interface, "source", network=network)
    SubElement(interface, "model", type="virtio")
    SubElement(interface, "rom", enabled="no")  # no guest boots from the network
    serial = SubElement(devices, "serial", type="file")
    SubElement(serial, "source", path=str(files.serial_log))
    agent = SubElement(devices, "channel", type="unix")
    SubElement(agent, "target", type="virtio", name="org.qemu.guest_agent.0")
    rng = SubElement(devices, "rng", model="virtio")
    SubElement(rng, "backend", model="random").text = "/dev/urandom"
    SubElement(devices, "memballoon", model="none")
    SubElement(devices, "controller", type="usb", model="none")


def _disk(devices: Element, path: Path, kind: str, target: str, bus: str) -> Element:
    disk = SubElement(devices, "disk", type="file", device="disk")
    SubElement(disk, "driver", name="qemu", type=kind, cache="unsafe")
    SubElement(disk, "source", file=str(path))
    SubElement(disk, "target", dev=target, bus=bus)
    return disk
