"""Replacing the QEMU of one guest in the window: parked, and unparked in the new QEMU, or the old.

A guest whose new QEMU refuses has its old one back here, in the window: it is to run again within
the budget. What is not finished in time is left to the resume, which brings back each guest that is
parked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.core.errors import HarnessError, UpdateFailed
from harness.core.timebase import Deadline
from harness.host.parking import Parking
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.parkable import parkable
from harness.maintenance.pause.unparking import start
from harness.results.journal import Journal, entries
from harness.updates.protocol import SwapPlan

_BY = "run"


class Swap:
    """Offers :class:`harness.updates.protocol.GuestSwap` to an update."""

    def __init__(self, hypervisor: Hypervisor, journal: Journal) -> None:
        self._hypervisor = hypervisor
        self._journal = journal
        self._changed = threading.Condition()
        self._steps = 0
        self._closed = False

    def quiesce(self, deadline: Deadline) -> None:
        """See :class:`~harness.updates.protocol.GuestSwap`."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._steps == 0, deadline.timeout_s())

    @contextmanager
    def _step(self, parking: Parking) -> Iterator[None]:
        """Do one thing to a guest, unless its resume has begun. Raises UpdateFailed."""
        with self._changed:
            if self._closed:
                raise UpdateFailed(
                    "the update was abandoned; the resume brings it back", guest=parking.name
                )
            self._steps += 1
        try:
            yield
        finally:
            with self._changed:
                self._steps -= 1
                self._changed.notify_all()

    def prepare(self, plans: Sequence[SwapPlan]) -> None:
        """See :class:`~harness.updates.protocol.GuestSwap`."""
        for plan in plans:
            self._journal.intend(parkable(plan.parking, plan.emulators, plan.versions))

    def swap(self, parking: Parking, deadline: Deadline) -> None:
        """See :class:`~harness.updates.protocol.GuestSwap`."""
        deadline.check("parking")
        with self._step(parking):
            self._journal.note(entries.Parking(parking.name, parking.uuid))
            try:
                self._hypervisor.parking.park(parking, deadline)
            except HarnessError as error:
                said = f"could not be parked: {error.message}"
                raise UpdateFailed(said, guest=parking.name) from error
            self._journal.note(entries.Parked(parking.name, parking.uuid))
        refused: HarnessError | None = None
        with self._step(parking):
            try:
                start(parking, self._hypervisor, self._journal, _BY, deadline, new=True)
            except HarnessError as error:
                refused = error
        if refused is not None:
            self._back(parking, refused, deadline)

    def _back(self, parking: Parking, refused: HarnessError, deadline: Deadline) -> None:
        """Have the guest in its old QEMU again; raises UpdateFailed, which says how that went."""
        why = f"the new QEMU refused: {refused.message}"
        if deadline.expired:
            raise UpdateFailed(
                f"{why}; there was no time left, so the resume brings it back", guest=parking.name
            ) from refused
        with self._step(parking):
            try:
                start(parking, self._hypervisor, self._journal, _BY, deadline, new=False)
            except HarnessError as error:
                said = f"{why}; the old one refused as well: {error.message}"
                raise UpdateFailed(said, guest=parking.name) from error
        raise UpdateFailed(f"{why}; it is in its old QEMU again", guest=parking.name) from refused
