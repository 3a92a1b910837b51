"""What is seen afterwards of guests whose QEMU was replaced in the pause."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath

from harness.checks.evidence import Swapped
from harness.core.errors import HarnessError
from harness.core.timebase import Deadline
from harness.host.parking import QemuLook
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.life import process_in
from harness.results.journal import GuestCustody, Journal, entries, fold


def look_at_swapped(
    journal: Journal, hypervisor: Hypervisor, deadline: Deadline
) -> Mapping[str, Swapped]:
    """Return, by name, what is seen of each guest that the last window was to park.

    Empty for an update that parks nobody. Never raises a HarnessError: what could not be seen is
    missing in the evidence.
    """
    try:
        guests = fold(journal.read()).guests.values()
    except HarnessError:
        return {}
    return {
        guest.member.name: _seen(guest, guest.parkable, hypervisor, deadline)
        for guest in guests
        if guest.parkable is not None
    }


def _seen(
    guest: GuestCustody, parkable: entries.Parkable, hypervisor: Hypervisor, deadline: Deadline
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
        copied=parkable.copied,
    )


def _ram(look: QemuLook) -> dict[str, str]:
    """Only what the process really has in its memory."""
    return {PurePath(one.path).name: one.identity for one in look.backings if one.mapped}
