"""Parking a guest whose RAM is its QEMU's own memory: the RAM goes through the state, once.

libvirt saves such a guest with all of its RAM. The state is written to memory, beside where the RAM
is to be. libvirt has a place of its own for a managed save, on the disk: a link there leads to the
state, so that any program's start brings the guest back with its RAM.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import libvirt

from harness.core.errors import InfrastructureError
from harness.host.parking import NEW, Berth, Parking, ProcessIdentity
from harness.host.qemu_process import was_restored
from harness.host.start_commands import description

#: Where libvirt looks for managed saves.
MANAGED = Path("/var/lib/libvirt/qemu/save")
#: What libvirt writes at the beginning of a state, last of all, when it is complete.
_COMPLETE = b"LibvirtQemudSave"
_PAUSED = libvirt.VIR_DOMAIN_SAVE_PAUSED


def save(parking: Parking, domain: libvirt.virDomain) -> None:
    """Save a paused guest with its RAM. Raises libvirtError or InfrastructureError.

    It is in its QEMU still if libvirt refuses.
    """
    new_xml = description(parking, NEW)
    if not parking.persistent:
        domain.saveFlags(parking.state, new_xml, _PAUSED)
        return
    _lead(parking)
    try:
        domain.managedSave(_PAUSED)
    except libvirt.libvirtError:
        withdraw(parking)
        raise
    domain.managedSaveDefineXML(new_xml, _PAUSED)


def end_save(domain: libvirt.virDomain) -> None:
    """End a save that is under way: the guest stays in its QEMU. Never raises."""
    with suppress(libvirt.libvirtError):
        if domain.isActive() and domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
            domain.abortJob()


def complete(parking: Parking) -> bool:
    """Return True if the guest's state is there, all of it.

    Raises InfrastructureError where that cannot be told.
    """
    try:
        with open(parking.state, "rb") as file:
            return file.read(len(_COMPLETE)) == _COMPLETE
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InfrastructureError(f"{parking.state}: {error.strerror}") from error


def berth(parking: Parking, process: ProcessIdentity) -> Berth:
    """Return where a guest is that has this QEMU: the one from before, or one by its state.

    One that was booted has nothing of its RAM.
    """
    own = process == parking.process or was_restored(process)
    return Berth.AFLOAT if own else Berth.ADRIFT


def withdraw(parking: Parking) -> None:
    """Take the link for libvirt away, where it leads to this state. Never raises."""
    link = _link(parking)
    with suppress(OSError):
        if os.readlink(link) == parking.state:
            link.unlink()


def _lead(parking: Parking) -> None:
    """Have libvirt's managed save of the guest be written to its state."""
    withdraw(parking)
    link = _link(parking)
    try:
        os.close(os.open(parking.state, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        link.symlink_to(parking.state)
    except OSError as error:
        raise InfrastructureError(f"{error.filename2 or link}: {error.strerror}") from error


def _link(parking: Parking) -> Path:
    return MANAGED / f"{parking.name}.save"
