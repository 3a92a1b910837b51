"""Can this machine run guests with hardware virtualisation? Asked of the kernel, not assumed.

``/dev/kvm`` proves nothing: on some machines it opens, answers its API version and even makes a
VM, yet no stock kernel boots in it. Usable KVM on x86 means that ``kvm_intel`` or ``kvm_amd`` is
there; other architectures have it built in.
"""

from __future__ import annotations

import fcntl
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import MissingCapability

#: ``_IO(0xAE, 0x00)`` and ``_IO(0xAE, 0x01)`` of linux/kvm.h.
_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
#: The only version there has been since Linux 2.6.22.
_KVM_API_VERSION = 12
_X86 = frozenset({"x86_64", "i386", "i686"})


@dataclass(frozen=True)
class Probe:
    """What was found: ``kvm`` or ``tcg``, and why."""

    accelerator: str
    reason: str


def probe(device: Path = Path("/dev/kvm"), modules: Path = Path("/sys/module")) -> Probe:
    """Find out what a new guest can use on this machine; never raises."""
    if platform.machine() in _X86:
        names = [name for name in ("kvm_intel", "kvm_amd") if (modules / name).exists()]
        if not names:
            return Probe("tcg", "neither kvm_intel nor kvm_amd is loaded")
        found = names[0]
    else:
        found = "built into the kernel"
    try:
        _make_a_vm(device)
    except OSError as error:
        return Probe("tcg", f"{device}: {error.strerror or error}")
    return Probe("kvm", found)


def _make_a_vm(device: Path) -> None:
    kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        version = fcntl.ioctl(kvm, _KVM_GET_API_VERSION, 0)
        if version != _KVM_API_VERSION:
            raise OSError(f"KVM API version {version}, not {_KVM_API_VERSION}")
        os.close(fcntl.ioctl(kvm, _KVM_CREATE_VM, 0))
    finally:
        os.close(kvm)


def resolve(wanted: str) -> Probe:
    """What to use when ``auto``, ``kvm`` or ``tcg`` is wanted.

    Raises MissingCapability if KVM is insisted on and not usable; ``auto`` never fails.
    """
    if wanted == "tcg":
        return Probe("tcg", "asked for")
    found = probe()
    if wanted == "kvm" and found.accelerator != "kvm":
        raise MissingCapability(
            "kvm",
            f"KVM is not usable here: {found.reason}",
            hint='use a box with hardware virtualisation, or accelerator = "auto"',
        )
    return found
