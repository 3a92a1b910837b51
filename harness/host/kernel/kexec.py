"""kexec: a kernel that is loaded beside the one that runs, and starts in its place.

By the system calls themselves: Debian's kexec-tools pulls in Xen's libraries, and its service ends
guests. See docs/adr/0040-kernel-by-init.md.
"""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness.core.errors import (
    HarnessError,
    InfrastructureError,
    MissingCapability,
    UpdateFailed,
)
from harness.host.kernel import read_only
from harness.host.kernel.writable_again import Watch
from harness.host.mounts import Mount, still_written

LOADED = Path("/sys/kernel/kexec_loaded")
#: Numbers of x86_64, as linux/reboot.h and asm/unistd_64.h have them.
_FILE_LOAD, _REBOOT = 320, 169
_UNLOAD, _NO_INITRD = 1, 4
_MAGIC = (0xFEE1DEAD, 672274793, 0x45584543, 0)
#: Of a bzImage: its magic, and where its version is, counted from 0x200.
_HEADER, _HEADER_AT, _VERSION_AT, _BASE = b"HdrS", 0x202, 0x20E, 0x200
_HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class KernelImage:
    """What a kernel's file says of itself."""

    path: Path
    release: str
    """As ``uname -r`` will say."""
    version: str
    """As ``uname -v`` will say."""

    @classmethod
    def read(cls, path: Path) -> KernelImage:
        """Read a kernel's file. Raises UpdateFailed for one that is none."""
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except OSError as error:
            raise UpdateFailed(f"{path}: {error.strerror}") from error
        if head[_HEADER_AT : _HEADER_AT + len(_HEADER)] != _HEADER:
            raise UpdateFailed(f"{path} is no kernel for x86")
        at = int.from_bytes(head[_VERSION_AT : _VERSION_AT + 2], "little") + _BASE
        said = head[at:].split(b"\0", 1)[0].decode("ascii", "replace")
        release, _, rest = said.partition(" ")
        _, mark, version = rest.partition("#")
        if not release or not mark:
            raise UpdateFailed(f"{path} does not tell its version")
        return cls(path, release, mark + version)


def load(image: Path, initrd: Path, line: str) -> None:
    """Load a kernel with its initrd and command line. Raises UpdateFailed or MissingCapability."""
    text = line.encode() + b"\0"
    try:
        with image.open("rb") as kernel, initrd.open("rb") as disk:
            _call(_FILE_LOAD, kernel.fileno(), disk.fileno(), len(text), text, 0)
    except OSError as error:
        raise UpdateFailed(f"kexec does not load {image}: {error.strerror}") from error
    if not is_loaded():
        raise UpdateFailed(f"{LOADED} does not say that {image} is loaded")


def unload() -> None:
    """Forget the kernel that is loaded, if one is. Raises InfrastructureError."""
    try:
        _call(_FILE_LOAD, -1, -1, 0, None, _UNLOAD | _NO_INITRD)
    except OSError as error:
        raise InfrastructureError(f"kexec does not unload: {error.strerror}") from error


def is_loaded(file: Path = LOADED) -> bool:
    """Return True if a kernel is loaded."""
    try:
        return file.read_text().strip() == "1"
    except OSError:
        return False


def start(watch: Watch | None = None) -> NoReturn:
    """Start the kernel that is loaded: the end of this one, and of every process.

    File systems become read-only, for at most two seconds; what was written is to be on the disks
    before. A file system that is written to while its disk is shut down reports errors.
    Raises UpdateFailed: this kernel goes on, and its file systems are as they were. ``watch`` has
    them be so, too, if this process is killed on the way.
    """
    if not is_loaded():
        raise UpdateFailed("no kernel is loaded")
    before: list[Mount] = []
    why = "kexec came back"
    try:
        before = still_written()
        if watch is not None:
            watch.arm(before)
        read_only.make_read_only()
        _call(_REBOOT, *_MAGIC)
    except OSError as error:
        why = f"kexec was refused: {error.strerror}"
    try:
        read_only.make_writable(before)
    except HarnessError as error:
        raise UpdateFailed(
            f"{why}; {error.message}", hint="mount -o remount,rw, for each of them"
        ) from error
    finally:
        if watch is not None:
            watch.disarm()
    raise UpdateFailed(why)


def _call(number: int, *arguments: int | bytes | None) -> None:
    if platform.machine() != "x86_64":
        raise MissingCapability("kexec", "only x86_64 is known here")
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), *words) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
