"""What a guest stands on that must be there before systemd is: disks, NICs, and its RAM.

The next kernel brings guests back when it has its root file system and the region, and nothing
else: no other mount, no logical volume that the root is not on, no iSCSI, no NFS.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from harness.host.kernel import apparmor
from harness.host.mounts import DAX
from harness.host.parking import QemuLook
from harness.host.region.lacks import Lack

#: NICs whose other end is made again: a tap by libvirt, on a bridge or a network.
_NICS = frozenset({"bridge", "network", "user"})
#: Programs beside QEMU, which end with this kernel.
_BESIDE = {
    "devices/tpm/backend[@type='emulator']": "a TPM of swtpm's",
    "devices/interface/backend[@type='passt']": "a NIC of passt's",
}
_TMPFS = "tmpfs"
#: Files of a guest that are no disks.
_FILES = ("os/loader", "os/nvram", "os/kernel", "os/initrd")


def on_the_root(path: Path) -> bool:
    """Return True if a file is on the root file system. Raises OSError."""
    return os.stat(path).st_dev == os.stat("/").st_dev


def lacks_of_guest(
    look: QemuLook, folder: Path, is_there: Callable[[Path], bool] = on_the_root
) -> tuple[Lack, ...]:
    """Return why a guest cannot be handed to the next kernel, beside its QEMU's own reasons.

    Args:
        look: at the running guest.
        folder: where the region is mounted.
        is_there: whether the next kernel has a file before it starts systemd; raises OSError.
    """
    domain = ElementTree.fromstring(look.description)
    return (*_ram(look, folder), *_confined(domain), *_beside_ram(domain, is_there))


def lacks_by_live_update(
    look: QemuLook, folder: Path, is_there: Callable[[Path], bool] = on_the_root
) -> tuple[Lack, ...]:
    """Return the same for a guest whose RAM is handed over by live update."""
    domain = ElementTree.fromstring(look.description)
    return (*_preservable(look, folder), *_confined_by_luo(domain), *_beside_ram(domain, is_there))


def _beside_ram(domain: Element, is_there: Callable[[Path], bool]) -> Iterator[Lack]:
    yield from _disks(domain, is_there)
    yield from _files(domain, is_there)
    yield from _nics(domain)
    yield from _beside(domain)


def _preservable(look: QemuLook, folder: Path) -> Iterator[Lack]:
    """Files in memory alone: neither huge pages nor a region, which no kernel takes so."""
    for ram in _elsewhere(look, folder, _TMPFS):
        yield Lack(
            f"its RAM {ram} is not on a tmpfs ({folder}), and cannot be handed over by live update",
            f"harness setup-host --resident SIZE; then harness adopt {look.name}, or a cold boot",
        )


def _confined_by_luo(domain: Element) -> Iterator[Lack]:
    """Such a QEMU may not open what another process holds."""
    for model in confinement_of(domain):
        yield Lack(
            f"its QEMU is confined by {model}, with which live update was never tried",
            'security_driver = "none" in /etc/libvirt/qemu.conf, and a cold boot; or '
            'resident = "dax"',
        )


def _confined(domain: Element) -> Iterator[Lack]:
    """What confines it has to be in force before systemd is."""
    for model in confinement_of(domain):
        if model != "apparmor":
            yield Lack(
                f"its QEMU is confined by {model}, of which systemd loads the policy",
                'security_driver = "none" in /etc/libvirt/qemu.conf, and a cold boot',
            )
        elif what := apparmor.missing():
            yield Lack(f"its QEMU is confined by apparmor, and there is {what}", "install apparmor")


def confinement_of(domain: Element) -> tuple[str, ...]:
    """Return what confines the QEMU of such a description: ``apparmor``, ``selinux``."""
    return tuple(
        model
        for label in domain.iterfind("seclabel")
        if label.get("type") != "none" and (model := label.get("model")) in ("apparmor", "selinux")
    )


def _beside(domain: Element) -> Iterator[Lack]:
    for place, what in _BESIDE.items():
        if domain.find(place) is not None:
            yield Lack(f"it has {what}, a program that ends with this kernel", "unplug it")


def _ram(look: QemuLook, folder: Path) -> Iterator[Lack]:
    """RAM on a tmpfs is enough for another QEMU, and ends with the kernel."""
    for ram in _elsewhere(look, folder, DAX):
        yield Lack(
            f"its RAM {ram} is not on the region ({folder}), and would end with this kernel",
            f"harness adopt {look.name}, or a cold boot",
        )


def _elsewhere(look: QemuLook, folder: Path, file_system: str) -> Iterator[str]:
    """Yield what a guest has for RAM that is not in that folder, on such a file system."""
    for backing in look.backings:
        if backing.file_system != file_system or folder not in Path(backing.path).parents:
            yield backing.path or "(private memory)"


def _disks(domain: Element, is_there: Callable[[Path], bool]) -> Iterator[Lack]:
    for disk in domain.iterfind("devices/disk"):
        target = disk.find("target")
        name = target.get("dev", "?") if target is not None else "?"
        for source, kind in _sources(disk):
            path = source.get("file") if kind == "file" else None
            if path is not None:
                yield from _file(f"its disk {name}", Path(path), is_there)
            elif kind != "file":
                what = source.get("dev") or source.get("name") or ""
                yield Lack(
                    f"its disk {name} is {kind} {what}".rstrip()
                    + ", which is not known to be there "
                    "before systemd starts",
                    "a file on the root file system",
                )


def _sources(disk: Element) -> Iterator[tuple[Element, str]]:
    """Yield the sources of a disk and of what it is layered on; a drive may be empty."""
    layer: Element | None = disk
    while layer is not None:
        source, kind = layer.find("source"), layer.get("type", "file")
        if source is not None:
            yield source, kind
        layer = layer.find("backingStore")


def _files(domain: Element, is_there: Callable[[Path], bool]) -> Iterator[Lack]:
    for place in _FILES:
        text = (domain.findtext(place) or "").strip()
        if text:
            yield from _file(f"its {place.partition('/')[2]}", Path(text), is_there)


def _file(what: str, path: Path, is_there: Callable[[Path], bool]) -> Iterator[Lack]:
    fix = "move it to the root file system"
    try:
        if not is_there(path):
            yield Lack(f"{what} ({path}) is not on the root file system", fix)
    except OSError as error:
        yield Lack(f"{what} ({path}): {error.strerror}", fix)


def _nics(domain: Element) -> Iterator[Lack]:
    for nic in domain.iterfind("devices/interface"):
        kind, source = nic.get("type", ""), nic.find("source")
        direct = source is not None and source.get("dev") is not None
        if kind not in _NICS or (kind == "network" and direct):
            mac = nic.find("mac")
            address = mac.get("address", "") if mac is not None else ""
            yield Lack(
                f"its NIC {address} is of type {'direct' if direct else kind}, which is not made "
                "again before systemd starts",
                "a NIC on a bridge, or on a network of libvirt's",
            )
