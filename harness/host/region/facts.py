"""What this host says of itself that decides whether its kernel can be replaced under its guests.

Looked up in one go and judged elsewhere (:mod:`harness.host.region.lacks`); changes nothing.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.host import watchdogs
from harness.host.kernel.early import PATH
from harness.host.mounts import file_system
from harness.host.region.device import NVDIMM, is_mounted
from harness.host.region.enrolment import Enrolled, Enrolment
from harness.host.region.place import is_set_aside
from harness.host.region.rehearsal import BEGUN, Hardware, Rehearsal, hardware, rehearsal
from harness.host.setup_steps import read

CPUINFO = Path("/proc/cpuinfo")
KEXEC_LOADED = Path("/sys/kernel/kexec_loaded")
KEXEC_DISABLED = Path("/proc/sys/kernel/kexec_load_disabled")
LOCKDOWN = Path("/sys/kernel/security/lockdown")
EFI_VARIABLES = Path("/sys/firmware/efi/efivars")
VIRTQEMUD = Path("/run/libvirt/virtqemud-sock")
#: What GRUB boots by, as grub-mkconfig writes it.
GRUB = Path("/boot/grub/grub.cfg")
_SECURE_BOOT = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#: An entry that starts a kernel of Linux; Xen's is called otherwise.
_ENTRY = re.compile(r"^\s*linux(?:16|efi)?\s+\S+(.*)$", re.MULTILINE)
_CHOSEN = re.compile(r"\[(\w+)\]")


@dataclass(frozen=True)
class Loader:
    """What this host's kernels are booted with."""

    file: Path
    """Of harness."""
    as_written: bool
    """It says what harness wrote; True where there is none because GRUB is not used."""
    lines: tuple[str, ...] | None
    """The command line of every entry; None: this host has no configuration of GRUB's."""


@dataclass(frozen=True)
class HostFacts:
    """What was found; nothing is judged."""

    enrolled: Enrolled | None
    command_line: str
    """Of the kernel that runs."""
    set_aside: bool
    """The running kernel has the region, by /proc/iomem."""
    folder: Path
    """libvirt's memory backing folder, by its configuration now."""
    folder_on: str | None
    """The file system there (``dax``, ``ext4``); None: it does not exist."""
    mounted: bool
    """The folder is the region, mounted with DAX."""
    loader: Loader
    cpu_flags: frozenset[str]
    kexec: bool
    """The running kernel can start another one."""
    kexec_disabled: bool
    lockdown: str
    """``none``, ``integrity`` or ``confidentiality``."""
    secure_boot: bool
    hardware: Hardware
    libvirtd: bool
    """Its program is where that of the next kernel's first moments looks for it."""
    virtqemud: bool
    """A daemon of its own has the guests."""
    rehearsal: Rehearsal | None
    """The last one that came back; None: there is none."""
    begun: Rehearsal | None = None
    """One that was begun in an earlier boot, and has not come back."""
    watchdogs: tuple[watchdogs.Watchdog, ...] = ()
    """In hardware."""


def look(here: Enrolment | None = None) -> HostFacts:
    """Look at this host. Raises InfrastructureError where a file cannot be read."""
    here = here or Enrolment.this()
    enrolled, folder = here.enrolled(), here.host.folder
    region = enrolled.region if enrolled is not None else None
    return HostFacts(
        enrolled=enrolled,
        command_line=(read(here.command_line) or "").strip(),
        set_aside=region is not None and is_set_aside(region, read(here.iomem) or ""),
        folder=folder,
        folder_on=file_system(folder),
        mounted=region is not None and is_mounted(region, folder, NVDIMM),
        loader=_loader(here, enrolled),
        cpu_flags=cpu_flags(read(CPUINFO) or ""),
        kexec=KEXEC_LOADED.exists(),
        kexec_disabled=(_said(KEXEC_DISABLED) or "0") != "0",
        lockdown=lockdown(_said(LOCKDOWN) or ""),
        secure_boot=secure_boot(EFI_VARIABLES),
        hardware=hardware(),
        libvirtd=shutil.which("libvirtd", path=PATH) is not None,
        virtqemud=VIRTQEMUD.exists(),
        rehearsal=rehearsal(),
        begun=rehearsal(BEGUN),
        watchdogs=watchdogs.look(),
    )


def _loader(here: Enrolment, enrolled: Enrolled | None) -> Loader:
    wanted = here.texts(enrolled).get(here.loader) if enrolled is not None else None
    text = read(GRUB) if here.update_grub is not None else None
    return Loader(
        here.loader,
        read(here.loader) == wanted,
        None if text is None else tuple(line.strip() for line in _ENTRY.findall(text)),
    )


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Return the flags that every CPU of ``/proc/cpuinfo`` has."""
    found = [
        frozenset(line.partition(":")[2].split())
        for line in cpuinfo.splitlines()
        if line.startswith("flags")
    ]
    return frozenset.intersection(*found) if found else frozenset()


def lockdown(said: str) -> str:
    """Return the chosen word of ``none [integrity] confidentiality``; ``none`` without one."""
    chosen = _CHOSEN.search(said)
    return chosen[1] if chosen is not None else "none"


def secure_boot(variables: Path) -> bool:
    """Return True if the firmware started this boot with Secure Boot on."""
    with suppress(OSError):
        # Four bytes of attributes, then one of the value.
        return (variables / _SECURE_BOOT).read_bytes()[4:5] == b"\x01"
    return False


def _said(file: Path) -> str | None:
    with suppress(OSError):
        return file.read_text().strip()
    return None
