"""Which process is a guest: QEMU's pid as libvirt wrote it down, and its start time.

libvirt keeps ``NAME.pid`` for each guest that runs. Only a process that is named there is taken
for a guest, and only if it was started with the guest's UUID, executes a QEMU, and belongs to a
user that libvirt runs guests as: anyone can start a process with ``-uuid`` among its arguments.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

from harness.core.process_stat import PROC, start_ticks
from harness.host.protocol import ProcessIdentity

_SYSTEM = Path("/run/libvirt/qemu")
#: Debian, Fedora and openSUSE call it ``qemu-system-…``, Red Hat ``qemu-kvm``, some ``kvm``.
_EXECUTABLES = ("qemu-", "kvm")
#: As libvirt names it, in a folder of the guest's (qemuDomainSetPrivatePaths).
_MONITOR = "/monitor.sock"
#: SO_ACCEPTCON, in the flags of ``/proc/net/unix``.
_LISTENS = 0x10000


def state_folder(uri: str) -> Path:
    """Return where libvirt's QEMU driver keeps its pid files, for ``qemu:///system`` or a session.

    See virQEMUDriverConfigNew in libvirt's src/qemu/qemu_conf.c.
    """
    if urlsplit(uri).path != "/session":
        return _SYSTEM
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return Path(runtime, "libvirt", "qemu", "run")


def find_process(uuid: str, folder: Path, proc: Path = PROC) -> ProcessIdentity | None:
    """Return the QEMU process of a guest, or None if none is visible.

    ``folder`` is libvirt's folder of pid files. Their names are not looked at: libvirt escapes
    some characters of a guest's name in them.
    """
    owners = _owners(folder)
    with suppress(OSError):
        for file in sorted(folder.glob("*.pid")):
            with suppress(OSError, ValueError):  # it has ended, or is not ours to look at
                pid = int(file.read_text())
                if _is_guest(proc / str(pid), uuid, owners | {file.stat().st_uid}):
                    return ProcessIdentity(pid, start_ticks(pid, proc))
    return None


def is_started(uuid: str, name: str, folder: Path) -> bool:
    """Return True if libvirt has written down a process for a guest that it starts or runs.

    That is whatever its emulator is: a wrapper, too, that is no QEMU yet. ``folder`` is where
    libvirt keeps the state of each guest that is active (``domstatus``, with the pid).
    """
    with suppress(OSError, ElementTree.ParseError):
        status = ElementTree.parse(folder / f"{name}.xml").getroot()
        return status.findtext("domain/uuid") == uuid and status.get("pid", "0") != "0"
    return False


def was_restored(process: ProcessIdentity, proc: Path = PROC) -> bool:
    """Return True if that process was started to take over a guest that ran in another one.

    libvirt starts QEMU with ``-incoming`` for a guest that was saved to disk, or is migrated here.
    """
    with suppress(OSError):
        arguments = (proc / str(process.pid) / "cmdline").read_bytes().split(b"\0")
        return b"-incoming" in arguments and start_ticks(process.pid, proc) == process.start_ticks
    return False


def monitor_of(process: ProcessIdentity, proc: Path = PROC) -> Path | None:
    """Return the socket at which QEMU listens for its monitor; None if it is not visible.

    libvirt is the one that connects to it, and QEMU serves one at a time.
    """
    folder = proc / str(process.pid)
    with suppress(OSError, ValueError):
        links = {os.readlink(one) for one in (folder / "fd").iterdir()}
        for line in (folder / "net" / "unix").read_text().splitlines()[1:]:
            *_, flags, _, _, inode, path = line.split(maxsplit=7)[2:]
            if (
                int(flags, 16) & _LISTENS
                and path.endswith(_MONITOR)
                and f"socket:[{inode}]" in links
            ):
                return Path(path)
    return None


def _owners(folder: Path) -> frozenset[int]:
    """The user that libvirt runs guests as, and gives some folders beside the pid files."""
    with suppress(OSError):
        return frozenset(one.stat().st_uid for one in folder.iterdir() if one.is_dir())
    return frozenset()


def _is_guest(process: Path, uuid: str, owners: frozenset[int]) -> bool:
    """Raises OSError if the process is gone, or may not be looked at."""
    arguments = (process / "cmdline").read_bytes().split(b"\0")
    if b"-uuid" not in arguments[:-1]:
        return False
    named = arguments[arguments.index(b"-uuid") + 1] == uuid.encode()
    return named and process.stat().st_uid in owners and _executes_qemu(process)


def _executes_qemu(process: Path) -> bool:
    try:
        executable = os.readlink(process / "exe")
    except PermissionError:  # another user's; what libvirt and its owner say has to do
        return True
    return Path(executable).name.startswith(_EXECUTABLES)
