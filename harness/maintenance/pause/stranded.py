"""Which guests are paused still when all has been tried: libvirt and the journal say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from harness.core.errors import HarnessError
from harness.core.timebase import Deadline
from harness.host.parking import Berth
from harness.host.protocol import GuestState, Hypervisor
from harness.maintenance.pause.absence import Fate, fate_of
from harness.maintenance.pause.life import process_of
from harness.maintenance.pause.parkable import parking_of
from harness.results.journal import GuestCustody, Member, Reading, fold


class Readable(Protocol):
    """What is asked of a journal."""

    def read(self) -> Reading:
        """Return what can be read now. Raises a HarnessError."""


def told(journal: Readable) -> Mapping[str, GuestCustody]:
    """Return what the journal says of each guest, by UUID; nothing if it cannot be read."""
    try:
        return fold(journal.read()).guests
    except Exception:  # noqa: BLE001  no error of any class comes before the resume
        return {}


def still_paused(
    members: Sequence[Member],
    hypervisor: Hypervisor,
    deadline: Deadline,
    *,
    if_silent: bool,
    journal: Readable | None = None,
) -> tuple[str, ...]:
    """Return the names of those of ``members`` that are paused, asked again.

    ``if_silent`` is the state to assume when libvirt does not answer: True for a guest that was
    last known to be paused. Such a guest is paused also where it was saved to disk, or where
    libvirt does not know it any more while its process, as ``journal`` has it, lives.
    """
    known = told(journal) if journal is not None else {}
    names = []
    for member in members:
        try:
            paused = hypervisor.state(member.uuid, deadline).state is GuestState.PAUSED
            custody = known.get(member.uuid)
            if not paused and custody is not None and custody.parkable is not None:
                berth = hypervisor.parking.berth(parking_of(custody.parkable), deadline)
                paused = berth is Berth.PARKED
            if not paused and if_silent:
                process = process_of(custody)
                fate = fate_of(member.uuid, process, hypervisor, deadline)
                paused = fate in (Fate.SAVED, Fate.LOST, Fate.AWAY)
        except HarnessError:
            paused = if_silent
        if paused:
            names.append(member.name)
    return tuple(names)
