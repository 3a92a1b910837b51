"""How a guest is parked, as the journal has it: one line for one :class:`Parking`, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from harness.host.parking import Parking
from harness.maintenance.pause.life import LifeSeen, process_in
from harness.results.journal import entries

#: Named alike in both. The others: the guest's name, and its process, which is two numbers there.
_ALIKE = tuple(one.name for one in fields(Parking) if one.name not in ("name", "process"))


def parkable(
    parking: Parking, emulators: Mapping[str, str], versions: Mapping[str, str]
) -> entries.Parkable:
    """Return what is written down of a guest before it is paused, so that it is brought back.

    ``emulators`` and ``versions`` are of its ``old`` and its ``new`` QEMU.
    """
    named = LifeSeen(parking.process).fields
    return entries.Parkable(
        guest=parking.name,
        emulators=emulators,
        versions=versions,
        qemu_pid=named["qemu_pid"],
        qemu_start_ticks=named["qemu_start_ticks"],
        **{name: getattr(parking, name) for name in _ALIKE},
    )


def parking_of(said: entries.Parkable) -> Parking:
    """Return how a guest is parked, as the journal has it."""
    alike = {name: getattr(said, name) for name in _ALIKE}
    return Parking(name=said.guest, process=process_in(said), **alike)
