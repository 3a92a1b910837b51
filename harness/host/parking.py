"""What describes a parked guest: its QEMU has ended, its RAM stays in place. Pure.

*Park*: QEMU's process is ended by libvirt's own save, which writes the devices' state (half a MiB)
to a file, while the RAM stays where it is, in named files in memory. *Unpark*: libvirt's own
restore starts a QEMU with those very files as its RAM, the vCPUs still paused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Protocol

from harness.core.timebase import Deadline

#: Names in the folder of a guest's ``files``.
STATE, NEW, OLD = "state", "new.xml", "old.xml"


@dataclass(frozen=True)
class ProcessIdentity:
    """The QEMU process of a guest; ``start_ticks`` is field 22 of ``/proc/PID/stat``.

    Pid and start time together name one process for the life of a host's boot.
    """

    pid: int
    start_ticks: int


@dataclass(frozen=True)
class Parking:
    """Where and how one guest is parked: all that it takes to bring it back.

    It is settled before the guest is paused, and is the same for every process that brings it back.
    """

    name: str
    uuid: str
    persistent: bool
    """Parked as libvirt's managed save, so that any start brings it back with its RAM."""
    keep: str
    """A private folder on the file system of the RAM, for hard links of the RAM files."""
    files: str
    """A private folder in a place of root's, which a reboot empties: the state (``state``), and the
    two descriptions that the guest can be started by (``new.xml``, ``old.xml``)."""
    ram_folder: str
    """libvirt's memory backing folder, where each instance of a guest has a folder of its own."""
    short_name: str
    """The guest's name in those folders' names, behind ``<id>-``."""
    ram: Mapping[str, str]
    """Name of each RAM file → ``device:inode``. Never run the guest with any other."""
    commands: str
    """Where its QEMU looks for commands at its start: this path with ``.in`` behind it."""
    highest_id: int = 0
    """The highest id that libvirt is known to have given to a guest."""
    copied: bool = False
    """Its RAM is in its state, as libvirt saves it, because it was its QEMU's own memory; there
    are no ``ram`` files and no ``commands``."""
    process: ProcessIdentity | None = None
    """Of one that is ``copied``: the QEMU that it was in before."""
    trees: tuple[str, ...] = ()
    """Folders of unpacked packages that one of its two QEMUs is taken from."""
    start_s: float = 0.0
    """For how long a start may take, where that is long; a longer one hangs."""
    lasting: bool = False
    """``files`` outlast this boot of the host: an unparked guest's state is gone from the disk too
    before it may run, so that no other boot starts it by that."""

    @property
    def state(self) -> str:
        """The file of its state, unless that is a managed save; in memory where RAM is in it."""
        return str(PurePath(self.keep if self.copied else self.files, STATE))


class Berth(StrEnum):
    """Where a guest is that was to be parked."""

    PARKED = "parked"
    """Its QEMU has ended; state and RAM are in their files."""
    AFLOAT = "afloat"
    """It has a QEMU, and the RAM of that is its own."""
    ADRIFT = "adrift"
    """It has a QEMU whose RAM is not its own, or cannot be told."""
    LOST = "lost"
    """It has no QEMU, and its state or its RAM is not there any more."""


@dataclass(frozen=True)
class Unparked:
    """A guest that has a QEMU again, with its own RAM; host's CLOCK_MONOTONIC."""

    process: ProcessIdentity | None
    began_ns: int
    returned_ns: int


@dataclass(frozen=True)
class RamBacking:
    """One piece of a guest's RAM, as its QEMU got it."""

    kind: str
    """QEMU's type of it: ``memory-backend-file``, ``memory-backend-memfd``, …"""
    path: str = ""
    """The file, if it is one."""
    shared: bool = False
    discard: bool = False
    """QEMU drops the content when it ends."""
    identity: str = ""
    """``device:inode`` of the file that lies at that path now; "" if none does."""
    links: int = 0
    """How many names that file has."""
    mapped: bool = False
    """The process has that very file in its memory."""
    file_system: str = ""
    """Of the folder, such as ``tmpfs``; "" if it cannot be told."""


@dataclass(frozen=True)
class QemuLook:
    """What tells whether the QEMU of a guest can be replaced; one look at a running guest."""

    name: str
    uuid: str
    description: str
    """The live XML, secrets included: it is what the guest is started by again."""
    present: str
    """The live XML as it is now, without secrets: also the names that the host gave to its parts,
    such as its pty, which ``description`` leaves out, as they are given again."""
    persistent: bool
    number: int
    """libvirt's id of this instance."""
    highest_id: int
    """Of all guests that run."""
    process: ProcessIdentity | None
    version: str
    """Of the QEMU it runs in: ``7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)``."""
    libvirt: tuple[int, int, int]
    backings: tuple[RamBacking, ...]
    same_short_name: tuple[str, ...]
    """Other guests whose instances have folders of the same name but for the id."""
    blocked: tuple[str, ...]
    """Why QEMU says that it cannot write its state."""
    jobs: tuple[str, ...]
    """Block jobs under way."""
    tainted: tuple[str, ...] = ()
    """What libvirt holds against it, in its words."""
    capable: bool = False
    """Its RAM is left out when it is saved: a replacement was not finished."""
    without_rules: tuple[str, ...] = ()
    """What of AppArmor's would keep libvirt from a QEMU of a folder, as the way back may be."""
    memory_bytes: int = 0
    """How much RAM it has."""
    used_bytes: int = 0
    """How much its QEMU has in memory, RAM that the guest never touched left out."""
    vhost: frozenset[str] = frozenset()
    """What its NICs have agreed on with this kernel, and an older one may not have."""


class GuestParking(Protocol):
    """What a hypervisor offers to replace a guest's QEMU. Every call ends by its deadline.

    Safe to call from several threads; raises only errors of :mod:`harness.core.errors`.
    """

    def look(self, uuid: str, deadline: Deadline) -> QemuLook:
        """Return what tells whether a guest's QEMU can be replaced. Raises HypervisorError."""

    def probe(
        self, emulator: str, arch: str, machine: str, accelerator: str, deadline: Deadline
    ) -> None:
        """Have libvirt get to know a QEMU, which takes a second the first time.

        Raises HypervisorError if it cannot be started or does not know the machine type.
        """

    def park(self, parking: Parking, deadline: Deadline) -> None:
        """End the QEMU of a paused guest; the RAM stays in its files.

        The state that is left names the new QEMU. Raises WrongState if the guest is not paused,
        HypervisorError if libvirt refuses; ``berth`` then tells where the guest is.
        """

    def unpark(self, parking: Parking, deadline: Deadline, *, new: bool) -> Unparked:
        """Start the ``new`` QEMU, or else the old one, with the guest's own RAM, paused.

        A guest that has one already, with its own RAM, keeps it. In the end its QEMU writes out
        all of its RAM again when it is saved, nothing is offered to another program, and its
        state is removed: RAM changes with the first instruction, and no program may start the guest
        by a state that it has left behind.

        Raises HypervisorError if that QEMU refuses; then the guest is parked as before.
        """

    def end_start(self, parking: Parking, deadline: Deadline) -> None:
        """End a QEMU that hangs while it starts; then the guest is parked as before.

        One whose vCPUs run, or that has been unparked, is never ended.
        """

    def berth(self, parking: Parking, deadline: Deadline) -> Berth:
        """Return where the guest is, by libvirt, its process and the files."""

    def settle(self, parking: Parking, deadline: Deadline) -> None:
        """Remove what was kept, once the guest runs again or has ended. Idempotent.

        Where its RAM is gone, that is also the managed save by which it was parked.
        """

    def definition(self, uuid: str, deadline: Deadline) -> str | None:
        """Return what a guest is booted by next time (XML, secrets included).

        None for a transient one. Raises HypervisorError.
        """

    def define(self, xml: str, deadline: Deadline) -> None:
        """Have a persistent guest booted by this next time. Raises HypervisorError."""
