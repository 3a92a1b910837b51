"""What is kept of a parked guest: its RAM, its state, and the commands for the next QEMU."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.file_locks import hold
from harness.core.files import sync_folder
from harness.core.timebase import Deadline
from harness.host import confinement, copied_ram, ram_links
from harness.host.luo import held_ram
from harness.host.parking import Parking, ProcessIdentity
from harness.host.start_commands import StartCommands

#: Of a managed save, which libvirt removes when it has started the guest by it.
COPY = "state.copy"
#: So many ids beyond the highest one known are offered; libvirt counts one up at each start, and at
#: each that it refuses.
_IDS_AHEAD = 64
#: Refused starts have no more offered: a file has no room for links without end.
_IDS_AT_MOST = 8192


def make_ready(parking: Parking, highest: int) -> None:
    """Have the next QEMU told that its RAM is there, and its RAM on offer under its id.

    ``highest`` is the highest id that libvirt is known to have given. Raises InfrastructureError.
    """
    confinement.admit(parking)
    if parking.copied:
        return
    keep = Path(parking.keep)
    owner = os.stat(keep / ram_links.RAM / next(iter(parking.ram)))
    StartCommands(Path(parking.commands)).arm(owner.st_uid, owner.st_gid)
    _offer(parking, max(highest, min(_used_up(_on_offer(parking)), _IDS_AT_MOST)))


def offer_more(parking: Parking) -> None:
    """Have the next start find RAM after one that was refused, under whichever id that was.

    Where none of those on offer was used, libvirt may have counted beyond them. Raises
    InfrastructureError.
    """
    if parking.copied:
        return
    there = _on_offer(parking)
    used = _used_up(there) or 2 * max(there, default=0)
    _offer(parking, max(parking.highest_id, min(used, _IDS_AT_MOST)))


def _on_offer(parking: Parking) -> set[int]:
    return ram_links.numbers(_ram_folder(parking), parking.short_name)


def _used_up(there: set[int]) -> int:
    """Return the highest id below those that are ``there`` which is not; 0: none.

    libvirt deletes the folder of an instance that ends, and of one that it refused to start. So
    this is how far it has counted, for any of its clients.
    """
    return max(set(range(1, max(there, default=0))) - there, default=0)


def _offer(parking: Parking, highest: int) -> None:
    keep, ids = Path(parking.keep), _ids(highest)
    ram_links.offer(keep, _ram_folder(parking), parking.short_name, ids, parking.ram)


def is_kept(parking: Parking) -> bool:
    """Return True if its RAM is kept, or on offer where the kept files were removed.

    Raises InfrastructureError where that cannot be told.
    """
    if parking.copied:
        return copied_ram.complete(parking)
    return ram_links.held(Path(parking.keep), parking.ram) or any(
        ram_links.untouched(_ram_folder(parking), parking.short_name, (number,), parking.ram)
        for number in _ids(parking.highest_id)
    )


def kept_again(parking: Parking) -> bool:
    """Have its RAM kept if it is not lost; False if it is. Raises InfrastructureError."""
    if parking.copied:
        return copied_ram.complete(parking)
    keep = Path(parking.keep)
    return ram_links.held(keep, parking.ram) or ram_links.keep_again(
        keep, _ram_folder(parking), parking.short_name, parking.ram
    )


def copy_managed_save(parking: Parking) -> None:
    """Copy the state beside: a start uses the managed save up, and any program can remove it.

    It is there whole or not at all: half a state is none to come back by. Never raises.
    """
    copy = Path(parking.files) / COPY
    partial = copy.with_suffix(".partial")
    with suppress(OSError):
        shutil.copyfile(copied_ram.MANAGED / f"{parking.name}.save", partial)
        os.rename(partial, copy)


def let_go(parking: Parking, process: ProcessIdentity | None, instance: Path | None) -> None:
    """Have RAM without a name be held by its QEMU alone, and by no process where it has none.

    Never raises: a guest that runs goes on whatever comes of it.
    """
    pids = held_ram.keepers(Path(parking.keep) / ram_links.RAM)
    if pids and process is not None and instance is not None:
        for name, identity in parking.ram.items():
            with suppress(InfrastructureError):
                held_ram.take_name(instance / name, held_ram.descriptor_of(process.pid, identity))
    for pid in pids:
        held_ram.dismiss(pid)


def has_copy(parking: Parking) -> bool:
    """Return True if there is a copy of a managed save by which no QEMU was started.

    A guest that was started by it and has ended is not brought back: its RAM is newer. Raises
    InfrastructureError where that cannot be told.
    """
    if parking.copied or not (Path(parking.files) / COPY).exists():
        return False
    return ram_links.untouched(
        _ram_folder(parking), parking.short_name, _ids(parking.highest_id), parking.ram
    )


def use_copy(parking: Parking) -> None:
    """Have the copy of a managed save be the state. Raises InfrastructureError."""
    copy = Path(parking.files) / COPY
    try:
        os.rename(copy, parking.state)
    except OSError as error:
        raise InfrastructureError(f"{copy}: {error.strerror}") from error


def forget_for_good(parking: Parking) -> None:
    """Return when its state is gone from the disk too: no boot brings the guest back by it again.

    Raises InfrastructureError if it is there still, or that cannot be made sure: then the guest
    must not run.
    """
    managed = copied_ram.MANAGED / f"{parking.name}.save"
    states = [Path(parking.state), Path(parking.files) / COPY]
    states += [managed] if parking.persistent else []
    for state in states:
        if os.path.lexists(state):
            raise InfrastructureError(f"{state} is there still: the guest may not run beside it")
        if not state.parent.is_dir():
            continue
        try:
            sync_folder(state.parent)
        except OSError as error:
            raise InfrastructureError(f"{state.parent}: {error.strerror}") from error


@contextmanager
def locked(files: Path, deadline: Deadline) -> Iterator[bool]:
    """Hold the lock on what is kept for a guest; False if it cannot be had by the deadline."""
    try:
        descriptor = os.open(files, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            hold(descriptor, deadline.clock, patience_s=deadline.remaining_s())
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _ram_folder(parking: Parking) -> Path:
    return Path(parking.ram_folder)


def _ids(highest: int) -> range:
    """The ids that libvirt may give next; they begin again at 1 when libvirtd is restarted."""
    return range(1, highest + _IDS_AHEAD + 1)
