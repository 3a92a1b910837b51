"""libvirt's cache of what QEMU can do, true for a kernel that has not run yet.

libvirt asks QEMU again after a change of kernel, which takes longer than all else. It compares the
kernel's release and version, which stand in the kernel's file; KVM's CPUID, which only the new
kernel tells; the times of QEMU and of itself, which stay; and whether QEMU's user may open
``/dev/kvm``.

An entry is shorter than libvirt's own, for it is read while guests wait: by that libvirtd alone
which brings them back.
"""

from __future__ import annotations

import fcntl
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:  # who brings guests back loads this while they wait
    from harness.host.kernel.kexec import KernelImage

CACHE = Path("/var/cache/libvirt/qemu/capabilities")
_SUPPORTED_CPUID, _ENTRIES, _ENTRY_BYTES = 0xC008AE05, 256, 40
#: The CPU that asks is in these: its number is no property of KVM's.
_INITIAL_APIC, _X2APIC = 0x1, 0xB
#: What each model of a CPU lacks here: more than half of an entry, and told to people only.
_BLOCKER = re.compile(r"^ *<blocker .*\n", re.MULTILINE)
#: With it libvirt asks a QEMU that it has started for each property of its CPU, some 450 times.
#: Without, twice, which tells nothing of features that are no part of CPUID.
_EACH_PROPERTY = "  <flag name='cpu-unavailable-features'/>\n"
#: A CPU of which nothing is compared with what QEMU has made of it.
_AS_IT_COMES = frozenset({"host-passthrough", "maximum"})
#: Elements of a guest that are looked for in its CPU.
_LOOKED_FOR = ("cpu/feature", "features/hyperv", "features/pvspinlock")


def prepared(
    image: KernelImage, descriptions: Iterable[str], cache: Path = CACHE
) -> dict[str, str]:
    """Return libvirt's entries as they are to be under ``image``, by file name; but for the CPUID.

    ``descriptions`` (XML) are of the guests that are brought back by them.
    """
    told = f"<kernelVersion>{image.release} {image.version}</kernelVersion>"
    spared = _EACH_PROPERTY if all(map(is_as_it_comes, descriptions)) else ""
    return {
        entry.name: _BLOCKER.sub(
            "", re.sub("<kernelVersion>.*?</kernelVersion>", told, entry.read_text())
        ).replace(spared, "")
        for entry in sorted(cache.glob("*.xml"))
    }


def is_as_it_comes(description: str) -> bool:
    """Return True if a guest's CPU is what QEMU makes of it: libvirt compares no feature of it."""
    domain = ElementTree.fromstring(description)
    cpu = domain.find("cpu")
    if cpu is not None and cpu.get("mode") not in _AS_IT_COMES:
        return False
    return all(domain.find(one) is None for one in _LOOKED_FOR)


def with_cpuid(entry: str, cpuid: str) -> str:
    """Return an entry with what KVM offers on this kernel; one without KVM stays as it is."""
    before, found, rest = entry.partition("    <cpuid ")
    if not found:
        return entry
    return before + cpuid + rest[rest.index("  </cpudata>") :]


def cpuid_of_kvm(device: Path = Path("/dev/kvm")) -> str:
    """Return what KVM offers on this kernel, as libvirt writes it. Raises OSError."""
    answer = bytearray(struct.pack("II", _ENTRIES, 0) + bytes(_ENTRY_BYTES * _ENTRIES))
    with device.open("rb") as kvm:
        fcntl.ioctl(kvm, _SUPPORTED_CPUID, answer)
    (count,) = struct.unpack_from("I", answer)
    return as_libvirt(struct.unpack_from("10I", answer, 8 + _ENTRY_BYTES * n) for n in range(count))


def as_libvirt(entries: Iterable[tuple[int, ...]]) -> str:
    """Return leaves (leaf, index, flags, eax, ebx, ecx, edx, …) as libvirt writes them."""
    lines = []
    for leaf, index, _, a, b, c, d, *_ in sorted(entries):
        b = b & 0xFFFFFF if leaf == _INITIAL_APIC else b
        d = d & 0xFFFFFF00 if leaf == _X2APIC else d
        values = {"eax_in": leaf, "ecx_in": index, "eax": a, "ebx": b, "ecx": c, "edx": d}
        if a or b or c or d:
            told = " ".join(f"{name}='0x{value:08x}'" for name, value in values.items())
            lines.append(f"    <cpuid {told}/>\n")
    return "".join(lines)
