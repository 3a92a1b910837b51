"""Guests in memory that are parked and unparked, or refuse to be."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from itertools import count
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from harness.core.errors import HypervisorError, WrongState
from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState
from harness.host.parking import (
    Berth,
    Parking,
    ProcessIdentity,
    QemuLook,
    RamBacking,
    Unparked,
)
from harness.host.protocol import EventKind

if TYPE_CHECKING:
    from harness.testing.hypervisor import FakeHypervisor

#: Pids beyond those of Linux: there is no such process here.
_FIRST_PID = 1 << 23


OLD_VERSION, NEW_VERSION = "7.2.22 (old)", "10.0.2 (new)"
DESCRIPTION = """
<domain type='qemu'><name>{name}</name><memory>1</memory>
<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>
"""


def eligible(name: str, uuid: str) -> QemuLook:
    """Return a look at a guest whose QEMU can be replaced."""
    backing = RamBacking(
        kind="memory-backend-file",
        path=f"/ram/1-{name}/pc.ram",
        shared=True,
        identity="1:2",
        links=1,
        mapped=True,
        file_system="tmpfs",
    )
    return QemuLook(
        name=name,
        uuid=uuid,
        description=DESCRIPTION.format(name=escape(name)),
        present=DESCRIPTION.format(name=escape(name)),
        persistent=False,
        number=1,
        highest_id=1,
        process=ProcessIdentity(1, 1),
        version=OLD_VERSION,
        libvirt=(9, 0, 0),
        backings=(backing,),
        same_short_name=(),
        blocked=(),
        jobs=(),
    )


class FakeParking:
    """Of a :class:`~harness.testing.hypervisor.FakeHypervisor`, whose ``before`` holds here, too.

    Its operations are ``park``, ``unpark new``, ``unpark old``, ``end start``, ``berth`` and
    ``settle``.
    """

    def __init__(self, host: FakeHypervisor) -> None:
        self._host = host
        self._pids = count(_FIRST_PID)
        self.berths: dict[str, Berth] = {}
        """Where each guest is; AFLOAT where it is not here."""
        self.runs_new: set[str] = set()
        """The guests that have their new QEMU."""
        self.settled: list[str] = []
        """The guests that nothing is kept for any more."""
        self.looks: dict[str, dict[str, Any]] = {}
        """What of a look at a guest is not as that of one that can be replaced."""
        self.probed: list[str] = []
        self.definitions: dict[str, str] = {}
        """What persistent guests are booted by, by name."""
        self.capable: set[str] = set()
        """The guests whose RAM no other program could save."""

    def look(self, uuid: str, deadline: Deadline) -> QemuLook:
        """See :class:`harness.host.parking.GuestParking`; what ``looks`` has, by name."""
        name = self._host.enter("look", uuid)
        version = NEW_VERSION if name in self.runs_new else OLD_VERSION
        process = self._host.process(uuid, deadline)
        seen = replace(
            eligible(name, uuid), version=version, process=process, capable=name in self.capable
        )
        return replace(seen, **self.looks.get(name, {}))

    def probe(
        self, emulator: str, arch: str, machine: str, accelerator: str, deadline: Deadline
    ) -> None:
        """See :class:`harness.host.parking.GuestParking`; notes what it was asked for."""
        self.probed.append(emulator)

    def park(self, parking: Parking, deadline: Deadline) -> None:
        """See :class:`harness.host.parking.GuestParking`."""
        name = self._host.enter("park", parking.uuid)
        if self._host.states.get(name) is not GuestState.PAUSED:
            raise WrongState("is not paused", operation="parking", guest=name)
        self.capable.add(name)
        gone = GuestState.SHUT_OFF if parking.persistent else GuestState.GONE
        self._host.become(name, gone, EventKind.STOPPED)
        self._host.processes.pop(name, None)
        self.berths[name] = Berth.PARKED

    def unpark(self, parking: Parking, deadline: Deadline, *, new: bool) -> Unparked:
        """See :class:`harness.host.parking.GuestParking`."""
        began_ns = self._host.clock.monotonic_ns()
        name = self._host.enter(f"unpark {'new' if new else 'old'}", parking.uuid)
        berth = self.berths.get(name, Berth.AFLOAT)
        if berth is Berth.LOST:
            raise HypervisorError("nothing is kept", operation="unparking", guest=name)
        if berth is not Berth.AFLOAT:
            self._host.processes[name] = ProcessIdentity(next(self._pids), 1)
            self._host.become(name, GuestState.PAUSED, EventKind.STARTED)
            self._host.become(name, GuestState.PAUSED, EventKind.SUSPENDED)
            self.berths[name] = Berth.AFLOAT
            (self.runs_new.add if new else self.runs_new.discard)(name)
        self.capable.discard(name)
        process = self._host.process(parking.uuid, deadline)
        return Unparked(process, began_ns, self._host.clock.monotonic_ns())

    def end_start(self, parking: Parking, deadline: Deadline) -> None:
        """See :class:`harness.host.parking.GuestParking`."""
        self._host.enter("end start", parking.uuid)

    def berth(self, parking: Parking, deadline: Deadline) -> Berth:
        """See :class:`harness.host.parking.GuestParking`."""
        return self.berths.get(self._host.enter("berth", parking.uuid), Berth.AFLOAT)

    def settle(self, parking: Parking, deadline: Deadline) -> None:
        """See :class:`harness.host.parking.GuestParking`."""
        self.settled.append(self._host.enter("settle", parking.uuid))

    def definition(self, uuid: str, deadline: Deadline) -> str | None:
        """See :class:`harness.host.parking.GuestParking`; None for one not in ``definitions``."""
        return self.definitions.get(self._host.enter("definition", uuid))

    def define(self, xml: str, deadline: Deadline) -> None:
        """See :class:`harness.host.parking.GuestParking`."""
        name = ElementTree.fromstring(xml).findtext("name", "")
        self.definitions[name] = xml
