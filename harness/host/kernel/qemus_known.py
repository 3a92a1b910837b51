"""libvirt's cache of what QEMU can do, true for a kernel that has not run yet.

libvirt asks QEMU again after a change of kernel, which takes longer than all else. It compares the
kernel's release and version, which stand in the kernel's file; KVM's CPUID, which only the new
kernel tells; the times of QEMU and of itself, which stay; and whether QEMU's user may open
``/dev/kvm``.
"""

from __future__ import annotations

import fcntl
import re
import struct
from collections.abc import Iterable
from pathlib import Path

from harness.host.kernel.kexec import KernelImage

CACHE = Path("/var/cache/libvirt/qemu/capabilities")
_SUPPORTED_CPUID, _ENTRIES, _ENTRY_BYTES = 0xC008AE05, 256, 40
#: The CPU that asks is in these: its number is no property of KVM's.
_INITIAL_APIC, _X2APIC = 0x1, 0xB


def prepared(image: KernelImage, cache: Path = CACHE) -> dict[str, str]:
    """Return libvirt's entries as they will be under ``image``, by file name; but for the CPUID."""
    told = f"<kernelVersion>{image.release} {image.version}</kernelVersion>"
    return {
        entry.name: re.sub("<kernelVersion>.*?</kernelVersion>", told, entry.read_text())
        for entry in sorted(cache.glob("*.xml"))
    }


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
