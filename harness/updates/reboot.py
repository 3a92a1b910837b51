"""What takes a reboot of the host, by the facts that needrestart goes by.

These are packages' names, the files they bring, and what the host itself says of a reboot.

A name can be anything, so the files are what counts where they can be seen; the name alone where a
package is not here yet, or goes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Packages leave this mark for the host's administrator, and their names beside it.
MARK = Path("/run/reboot-required")
BOOT = Path("/boot")

_NAMES = (
    (re.compile(r"(linux|pve|proxmox)-(image|modules|kernel)(-.*)?"), "kernel"),
    (re.compile(r"(pve|proxmox)-kernel-.*|xen-hypervisor-.*"), "kernel"),
    (re.compile(r".*-microcode"), "microcode"),
    (re.compile(r"firmware-.*|.*-firmware(-.*)?"), "firmware"),
)
#: Of modules only a kernel's own: those built beside it (updates/, extra/) can be loaded again. Of
#: firmware only microcode: other files may be data that is read when it is wanted.
_FILES = (
    (re.compile(r"boot/(vmlinu[xz]|xen)-.*|(usr/)?lib/modules/[^/]+/kernel/.+"), "kernel"),
    (re.compile(r"(usr/)?lib/firmware/(intel-ucode|amd-ucode)/.+"), "microcode"),
)
_IMAGE = "vmlinuz-"


def by_name(package: str) -> str | None:
    """``kernel``, ``microcode`` or ``firmware``, if a package's name says that it is one."""
    return next((what for name, what in _NAMES if name.fullmatch(package)), None)


def by_files(paths: Iterable[str]) -> tuple[str, str] | None:
    """What a package is by the files it brings (``./boot/vmlinuz-6.1``), and the one that tells."""
    for path in paths:
        for file, what in _FILES:
            if file.fullmatch(path.removeprefix("./")):
                return what, path.removeprefix(".")
    return None


def asking() -> frozenset[str]:
    """The packages that ask for a reboot of this host; ``a package`` where a mark names none."""
    try:
        names = MARK.with_name(f"{MARK.name}.pkgs").read_text(errors="replace").split()
    except OSError:
        names = []
    return frozenset(names or (["a package"] if MARK.exists() else []))


def awaited() -> Iterator[str]:
    """Why this host waits for a reboot already, for people; nothing if it does not."""
    if names := asking():
        yield f"this host waits for a reboot already, asked for by {', '.join(sorted(names))}"
    running = running_release()
    flavour = _flavour(running)
    installed = [image.name.removeprefix(_IMAGE) for image in BOOT.glob(f"{_IMAGE}*")]
    same = [release for release in installed if _flavour(release) == flavour]
    newest = max(same, key=_by_number, default=running)
    if _by_number(newest) > _by_number(running):
        yield f"this host waits for a reboot already: it runs {running}, and {newest} is installed"


def running_release() -> str:
    """The kernel that runs, as ``uname -r`` has it."""
    return os.uname().release


def _flavour(release: str) -> str:
    """``cloud-amd64`` of ``6.1.0-56-cloud-amd64``."""
    return release.lstrip("0123456789.-")


def _by_number(release: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", release)]
