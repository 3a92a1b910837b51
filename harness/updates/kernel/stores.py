"""Where guests' RAM is while no kernel runs that has started them: what differs, in one place.

``dax``: in files of a region of memory that every kernel of the host sets aside. ``luo``: in files
without a name, which this kernel hands to the next one by ``/dev/liveupdate``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from harness.core.errors import PlanError, UpdateFailed
from harness.host import ram_folder, ram_links
from harness.host.kernel import early, magic
from harness.host.luo import held_ram
from harness.host.luo.sessions import Session
from harness.host.parking import Parking, QemuLook
from harness.host.protocol import GuestInfo
from harness.host.region.place import Region
from harness.updates.kernel import preflight
from harness.updates.kernel.belongings import lacks_by_live_update
from harness.updates.kernel.next_kernel import KernelFiles
from harness.updates.kernel.plan import DAX, LUO, Preserved

#: Beside the folder of RAM links: states, which outlast this boot as the RAM does.
STATES = "harness-states"
#: States of guests whose RAM is in no file system that the next kernel has.
ON_DISK = Path("/var/lib/harness/states")


class Store(Protocol):
    """Keeps guests' RAM from one kernel to the next."""

    def require_kernel(self, files: KernelFiles, command_line: str, silent_s: float) -> None:
        """Raise PlanError naming every reason why that kernel cannot have the RAM.

        ``silent_s``: for how long no systemd may run.
        """

    def require_guests(
        self, looks: Sequence[QemuLook], on_host: Sequence[GuestInfo], release: str
    ) -> None:
        """Raise PlanError naming every reason why that kernel cannot be handed these guests."""

    def states(self, parking: Parking) -> Path:
        """Return the folder for a guest's state, which the next kernel finds."""

    def begin(
        self, run_id: str, looks: Sequence[QemuLook], parkings: Sequence[Parking]
    ) -> Mapping[str, Any]:
        """Prepare the handover while guests run; what the thaw plan says of it.

        Raises HarnessError.
        """

    def hold(self, parking: Parking) -> None:
        """Have the RAM of a paused guest outlive its QEMU, if parking alone does not do that.

        Raises HarnessError.
        """

    def end(self) -> None:
        """There is no handover: this kernel goes on. Never raises."""


class RegionStore:
    """``resident = "dax"``."""

    def __init__(self) -> None:
        self._region: Region | None = None

    def require_kernel(self, files: KernelFiles, command_line: str, silent_s: float) -> None:
        """See :class:`Store`."""
        found = preflight.require_kernel(
            files.image.release, files.image.path, files.initrd, command_line, silent_s
        )
        self._region = found.region

    def require_guests(
        self, looks: Sequence[QemuLook], on_host: Sequence[GuestInfo], release: str
    ) -> None:
        """See :class:`Store`."""
        preflight.require_guests(looks, on_host, ram_folder.backing_folder(), release)

    def states(self, parking: Parking) -> Path:
        """See :class:`Store`."""
        return Path(parking.ram_folder, STATES, parking.uuid)

    def begin(
        self, run_id: str, looks: Sequence[QemuLook], parkings: Sequence[Parking]
    ) -> Mapping[str, Any]:
        """See :class:`Store`."""
        if self._region is None:
            raise UpdateFailed("the region was not looked at")
        said = magic.new_magic(run_id)
        magic.write(Path(parkings[0].ram_folder), said)
        return {
            "resident": DAX,
            "magic": said,
            "region_start": self._region.start,
            "region_size": self._region.size,
        }

    def hold(self, parking: Parking) -> None:
        """The links that parking makes are enough."""

    def end(self) -> None:
        """A page that says something of no handover does no harm."""


class LiveUpdateStore:
    """``resident = "luo"``."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._files: dict[str, dict[str, int]] = {}

    def require_kernel(self, files: KernelFiles, command_line: str, silent_s: float) -> None:
        """See :class:`Store`."""
        preflight.require_live_update(
            files.image.release, files.image.path, files.initrd, command_line, silent_s
        )

    def require_guests(
        self, looks: Sequence[QemuLook], on_host: Sequence[GuestInfo], release: str
    ) -> None:
        """See :class:`Store`."""
        place = next(one for one in (ON_DISK, *ON_DISK.parents) if one.is_dir())
        preflight.require_guests(
            looks, on_host, ram_folder.backing_folder(), release, lacks_by_live_update, place
        )
        missing = sum(max(0, one.memory_bytes - one.used_bytes) for one in looks)
        available = ram_folder.available_bytes()
        if missing > available:
            raise PlanError(
                f"the RAM that guests have never touched is filled to be handed over: up to "
                f"{missing >> 20} MiB, and this host has {available >> 20} MiB left",
                hint="shut a guest down, or give it less RAM",
            )

    def states(self, parking: Parking) -> Path:
        """See :class:`Store`."""
        return ON_DISK / parking.uuid

    def begin(
        self, run_id: str, looks: Sequence[QemuLook], parkings: Sequence[Parking]
    ) -> Mapping[str, Any]:
        """See :class:`Store`."""
        self.end()
        name = f"harness-{secrets.token_hex(16)}"
        self._session = session = Session.create(name)
        preserved: list[Preserved] = []
        for look, parking in zip(looks, parkings, strict=True):
            opened = self._files[parking.uuid] = {}
            for backing in look.backings:
                path = Path(backing.path)
                file = opened[path.name] = _opened(path, backing.identity)
                if look.process is None:
                    raise UpdateFailed("its QEMU process cannot be seen", guest=look.name)
                if os.fstat(file).st_nlink:
                    own = held_ram.descriptor_of(look.process.pid, backing.identity)
                    held_ram.take_name(path, own)
                about = os.fstat(file)
                token = len(preserved) + 1
                session.preserve(file, token)
                preserved.append(
                    Preserved(
                        parking.uuid, path.name, token, about.st_size, about.st_uid, about.st_gid
                    )
                )
        room = os.statvfs(parkings[0].ram_folder)
        return {
            "resident": LUO,
            "magic": name,
            "region_start": 0,
            "region_size": 0,
            "session": name,
            "preserved": tuple(preserved),
            "ram_options": f"{ram_folder.OPTIONS},size={room.f_blocks * room.f_frsize}",
        }

    def hold(self, parking: Parking) -> None:
        """See :class:`Store`. The guardian, too, brings the guest back by it."""
        files = self._files[parking.uuid]
        about = os.fstat(next(iter(files.values())))
        keeper = held_ram.Keeper(files, about.st_uid, about.st_gid)
        with suppress(OSError):  # of the run's it would end with that
            early.give_a_group(parking.uuid, keeper.pid)
        ram_links.lay_held(Path(parking.keep), keeper.held, parking.ram)

    def end(self) -> None:
        """See :class:`Store`."""
        if self._session is not None:
            self._session.close()
            self._session = None
        for files in self._files.values():
            for file in files.values():
                with suppress(OSError):
                    os.close(file)
        self._files = {}


def store(resident: str) -> Store:
    """Return the store of that name."""
    return LiveUpdateStore() if resident == LUO else RegionStore()


def _opened(path: Path, identity: str) -> int:
    """Open RAM that was looked at. Raises UpdateFailed if it is another file by now.

    The folder is QEMU's user's: what a link there leads to is looked at before it is opened.
    """
    file = -1
    try:
        held = held_ram.is_held(path)
        where = os.readlink(path) if held else str(path)
        if ram_links.identity(os.stat(where, follow_symlinks=held)) == identity:
            file = os.open(where, os.O_RDWR | os.O_CLOEXEC | (0 if held else os.O_NOFOLLOW))
    except OSError as error:
        raise UpdateFailed(f"{path}: {error.strerror}") from error
    if file >= 0 and ram_links.identity(os.fstat(file)) == identity:
        return file
    if file >= 0:
        os.close(file)
    raise UpdateFailed(f"{path} is not the RAM that it was when it was looked at")
