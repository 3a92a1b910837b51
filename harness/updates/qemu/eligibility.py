"""Can the QEMU of this guest be replaced? Every reason why not, each with what fixes it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from harness.core.pasteable import command, virsh
from harness.host.mounts import IN_MEMORY
from harness.host.parking import QemuLook, RamBacking
from harness.updates.qemu import tried
from harness.updates.qemu.successor import owners_arguments
from harness.updates.qemu.tried import release

BACKING_XML = (
    "<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking> in the guest's "
    "XML, and a cold boot"
)
_FILE = "memory-backend-file"
#: Its RAM ends with its QEMU.
_NAMELESS = "its RAM has no name that could be kept, since it came over from another kernel"
#: The oldest QEMU that tells why it cannot write its state.
_OLDEST_QEMU = (6, 0)
#: From this QEMU on, an older libvirt than that cannot restore (tried with 9.0 and 11.3).
_NEWER_QEMU, _NEEDS_LIBVIRT = 11, (12, 8)


@dataclass(frozen=True)
class Obstacle:
    """One reason why a guest's QEMU cannot be replaced."""

    reason: str
    fix: str
    """What to change: a line of XML, of a configuration, or a command."""
    adoptable: bool = False
    """`harness adopt` changes it without a boot: its RAM is copied to where it can be kept."""

    def __str__(self) -> str:
        """``its RAM is private (fix: …)``."""
        return f"{self.reason} (fix: {self.fix})"


def obstacles(look: QemuLook, *, nameless: bool = False) -> tuple[Obstacle, ...]:
    """Return why the QEMU of a guest cannot be replaced by any other; empty if it can.

    ``nameless``: its RAM may be a file without a name, as one that came over a kexec is.
    """
    domain = ElementTree.fromstring(look.description)
    judges: tuple[Callable[[QemuLook, Element], Iterator[Obstacle]], ...] = (
        _process,
        _ram,
        _devices,
        _busy,
        _names,
        _confinement,
    )
    found = tuple(obstacle for judge in judges for obstacle in judge(look, domain))
    return tuple(one for one in found if not nameless or one.reason != _NAMELESS)


def unfit_pair(libvirt: tuple[int, int, int], version: str) -> Obstacle | None:
    """Return why this libvirt cannot start a guest in a QEMU of ``version``, if it cannot."""
    major, minor = release(version)
    if major >= _NEWER_QEMU and libvirt[:2] < _NEEDS_LIBVIRT:
        ours, needed = _dotted(libvirt[:2]), _dotted(_NEEDS_LIBVIRT)
        return Obstacle(
            f"libvirt {ours} cannot bring a guest into QEMU {major}.{minor} and back",
            f"libvirt {needed} or newer first",
        )
    if (major, minor) < _OLDEST_QEMU:
        return Obstacle(
            f"QEMU {major}.{minor} is too old to tell whether it can write its state",
            f"a newer one: {_dotted(_OLDEST_QEMU)} or later",
        )
    return None


def unfit_states(old: str, new: str) -> Obstacle | None:
    """Return why the QEMU of version ``new`` cannot take over a guest from ``old``, if known."""
    if not tried.refuses(old, new):
        return None
    return Obstacle(
        f"QEMU {new.split()[0]} refuses the state of virtio devices of QEMU {old.split()[0]}",
        "another version of QEMU",
    )


def remarks(look: QemuLook, new_version: str) -> Iterator[str]:
    """What a person should know of a guest whose QEMU can be replaced."""
    domain = ElementTree.fromstring(look.description)
    if domain.find("genid") is not None:
        yield "<genid>: it gets a new VM generation id, as after going back to a snapshot"
    if domain.find("devices/graphics") is not None:
        yield "viewers of its VNC or SPICE display are cut off"
    if domain.find("devices/console") is not None or domain.find("devices/serial") is not None:
        yield "viewers of its console are disconnected; the name of its pty may change"
    if owners_arguments(look.description):
        yield "its own arguments for QEMU (qemu:commandline) are kept as they are"
    yield "until its next cold boot libvirt calls it tainted (custom-argv, custom-monitor)"
    old, new = release(look.version), release(new_version)
    if not tried.works(look.libvirt[:2], old, new):
        yield (
            f"libvirt {_dotted(look.libvirt[:2])} with QEMU {_dotted(old)} → {_dotted(new)} was "
            "never tried"
        )


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _process(look: QemuLook, domain: Element) -> Iterator[Obstacle]:
    if look.process is None:
        yield Obstacle(
            "its QEMU process cannot be seen from here", "run harness as root on the guest's host"
        )


def _ram(look: QemuLook, domain: Element) -> Iterator[Obstacle]:
    if domain.find("memoryBacking/hugepages") is not None:
        yield Obstacle(
            "<hugepages/>: its RAM has no name that could be kept",
            f"take <hugepages/> out; {BACKING_XML}; memory_backing_dir may be on hugetlbfs",
        )
        return
    if look.process is not None and not look.backings:
        yield _private("its RAM is private memory of its QEMU", domain)
    for backing in look.backings:
        yield from _backing(backing, domain)


def _private(reason: str, domain: Element) -> Obstacle:
    """A guest whose RAM can be copied to where it can be kept."""
    if domain.find("cpu/numa/cell[@memAccess]") is not None:
        return Obstacle(
            f"{reason}, as <cell memAccess='…'> says",
            f"take memAccess out of <cell>; {BACKING_XML}",
        )
    return Obstacle(reason, f"{_adopt(domain)}; or {BACKING_XML}", adoptable=True)


def _adopt(domain: Element) -> str:
    return command("harness", "adopt", domain.findtext("name", ""))


def _backing(backing: RamBacking, domain: Element) -> Iterator[Obstacle]:
    folder = PurePath(backing.path).parent
    if backing.kind != _FILE:
        if backing.kind.endswith("memfd"):
            yield Obstacle("its RAM is a memfd", BACKING_XML)
        else:
            yield _private("its RAM is private memory of its QEMU", domain)
        return
    if not backing.shared:
        yield _private("its RAM is mapped privately", domain)
    if backing.discard:
        yield Obstacle(
            "<discard/>: QEMU drops its RAM when it ends",
            "take <discard/> out of <memoryBacking>, and a cold boot",
        )
    if not backing.mapped:
        yield Obstacle(
            f"{backing.path} is not its RAM (any more)",
            f"{_adopt(domain)}; or a cold boot",
            adoptable=True,
        )
        return
    if not backing.links:
        yield Obstacle(_NAMELESS, f"{_adopt(domain)}; or a cold boot", adoptable=True)
    elif backing.links != 1:
        yield Obstacle(
            f"its RAM {backing.path} has {backing.links} names, not one: an earlier replacement "
            "was not finished",
            "harness recover",
        )
    if backing.file_system not in IN_MEMORY:
        yield Obstacle(
            f"its RAM is in {folder}, on {backing.file_system or 'an unknown file system'}, which "
            "is not in memory",
            f"harness setup-host --resident SIZE, or /etc/fstab: tmpfs {folder.parent} tmpfs "
            f"mode=0755 0 0; then {_adopt(domain)}, or a cold boot",
            adoptable=True,
        )


#: Where in the XML → what it is. libvirt or QEMU refuse to save these, or it was never tried.
_DEVICES = {
    "devices/hostdev": "a device of the host (hostdev)",
    "devices/interface[@type='hostdev']": "a network device of the host (hostdev)",
    "devices/interface[@type='vdpa']": "a vDPA device",
    "devices/interface[@type='vhostuser']": "a vhost-user interface",
    "devices/filesystem": "a shared folder (filesystem)",
    "devices/shmem": "shared memory (shmem)",
    "devices/memory": "a memory device (DIMM, NVDIMM, virtio-mem)",
    "devices/disk/transient": "a transient disk",
    "devices/disk[@type='vhostuser']": "a vhost-user disk",
    "devices/tpm/backend[@type='passthrough']": "the host's own TPM",
    "devices/tpm/backend[@type='external']": "a TPM that libvirt does not run",
    "launchSecurity": "memory encryption (launchSecurity)",
}


def _devices(look: QemuLook, domain: Element) -> Iterator[Obstacle]:
    for place, what in _DEVICES.items():
        if domain.find(place) is not None:
            element = place.rpartition("/")[2].partition("[")[0]
            yield Obstacle(f"it has {what}", f"unplug it: <{element}> in the guest's XML")


def _busy(look: QemuLook, domain: Element) -> Iterator[Obstacle]:
    for job in look.jobs:
        end = f"{_virsh('blockjob', domain)} {command(job)} --abort"
        yield Obstacle(f"a block job is under way: {job}", f"wait for it, or {end}")
    for reason in look.blocked:
        yield Obstacle(f"its QEMU cannot write its state: {reason}", "unplug what it names")
    if look.capable:
        yield Obstacle(
            "its RAM is left out when it is saved: an earlier replacement was not finished",
            "harness recover",
        )


def _names(look: QemuLook, domain: Element) -> Iterator[Obstacle]:
    if look.same_short_name:
        others = ", ".join(look.same_short_name)
        yield Obstacle(
            f"its name begins with the same 20 characters as that of {others}, so one might be "
            "given the RAM of the other",
            f"{_virsh('domrename', domain)} NEW-NAME, while it is shut off",
        )


def _virsh(verb: str, domain: Element) -> str:
    """Return a command to paste, but for what a person has to choose; this kind is for one URI."""
    return virsh("qemu:///system", verb, domain.findtext("name", ""), domain.findtext("uuid", ""))


def _confinement(look: QemuLook, domain: Element) -> Iterator[Obstacle]:
    """AppArmor's own profile of a guest, as libvirt makes it, can be given what it lacks."""
    for label in domain.iterfind("seclabel"):
        model, kind = label.get("model", ""), label.get("type")
        own = label.findtext("label") in (None, f"libvirt-{look.uuid}")
        if kind == "none" or model not in ("apparmor", "selinux"):
            continue
        if model == "apparmor" and kind == "dynamic" and own:
            for lack in look.without_rules:
                yield Obstacle(
                    f"{lack}, which a QEMU from a folder needs",
                    "harness setup-host --resident SIZE, of the RAM of all such guests",
                )
            continue
        what = " by a profile of its owner" if model == "apparmor" else ""
        yield Obstacle(
            f"its QEMU is confined by {model}{what}, with which this was never tried",
            'security_driver = "none" in /etc/libvirt/qemu.conf, and a cold boot',
        )
