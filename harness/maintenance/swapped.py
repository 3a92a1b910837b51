"""What is seen afterwards of guests whose QEMU was replaced in the pause."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import PurePath

from harness.checks.evidence import Swapped
from harness.core.errors import HarnessError
from harness.core.timebase import Deadline
from harness.host.parking import QemuLook
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.life import process_in
from harness.results.journal import GuestCustody, Journal, entries, fold
from harness.updates.qemu.changes import changes


def look_at_parkable(
    uuids: Collection[str], journal: Journal, hypervisor: Hypervisor, deadline: Deadline
) -> Mapping[str, QemuLook]:
    """Return, by UUID, what is seen before the pause of those guests that are to be parked.

    Empty for an update that parks no guest. Never raises a HarnessError.
    """
    found = {}
    with suppress(HarnessError):
        parkable = fold(journal.read()).parkable
        for uuid in (one for one in uuids if one in parkable):
            found[uuid] = hypervisor.parking.look(uuid, deadline)
    return found


def look_at_swapped(
    journal: Journal,
    hypervisor: Hypervisor,
    deadline: Deadline,
    before: Mapping[str, QemuLook],
) -> Mapping[str, Swapped]:
    """Return, by name, what is seen of each guest that the last window was to park.

    ``before`` is what was seen of them before the pause, by UUID. Empty for an update that parks
    no guest. Never raises a HarnessError: what could not be seen is missing in the evidence.
    """
    try:
        guests = fold(journal.read()).guests.values()
    except HarnessError:
        return {}
    return {
        guest.member.name: _seen(
            guest, guest.parkable, hypervisor, deadline, before.get(guest.member.uuid)
        )
        for guest in guests
        if guest.parkable is not None
    }


def _seen(
    guest: GuestCustody,
    parkable: entries.Parkable,
    hypervisor: Hypervisor,
    deadline: Deadline,
    before: QemuLook | None,
) -> Swapped:
    look: QemuLook | None = None
    with suppress(HarnessError):
        look = hypervisor.parking.look(guest.member.uuid, deadline)
    return Swapped(
        process=process_in(guest.unpark) if guest.unpark is not None else None,
        ram_before=parkable.ram,
        ram_after=_ram(look) if look is not None else None,
        version_planned=parkable.versions.get("new", ""),
        version_after=look.version if look is not None else None,
        changes=tuple(changes(before, look)) if before is not None and look is not None else (),
        copied=parkable.copied,
    )


def _ram(look: QemuLook) -> dict[str, str]:
    """Only what the process really has in its memory."""
    return {PurePath(one.path).name: one.identity for one in look.backings if one.mapped}
