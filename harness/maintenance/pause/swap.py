"""What a window does to parked guests for an update: their next QEMU, or the host's next kernel.

A guest whose new QEMU refuses has its old one back here, in the window: it is to run again within
the budget. What is not finished in time, or a kernel that could not be left, is left to the
resume, which brings back each guest that is parked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

from harness.core.errors import HarnessError, UpdateFailed
from harness.core.fanout import fan_out
from harness.core.timebase import Deadline
from harness.host.parking import Parking
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.parkable import parkable
from harness.maintenance.pause.unparking import start
from harness.results.journal import Journal, entries
from harness.updates.protocol import NextKernel, SwapPlan

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
        self._park(parking, deadline)
        refused: HarnessError | None = None
        with self._step(parking):
            try:
                start(parking, self._hypervisor, self._journal, _BY, deadline, new=True)
            except HarnessError as error:
                refused = error
        if refused is not None:
            self._back(parking, refused, deadline)

    def hand_over(
        self, parkings: Sequence[Parking], kernel: NextKernel, deadline: Deadline
    ) -> NoReturn:
        """See :class:`~harness.updates.protocol.GuestSwap`.

        Until ``leaving`` is on the disk everything goes back in place, by the run or its guardian.
        """
        parks = {one.name: partial(self._park, one, deadline) for one in parkings}
        answers = fan_out(parks, deadline, what="parking")
        failed = [str(one.error) for one in answers.values() if one.error is not None]
        if failed:
            raise UpdateFailed(f"{len(failed)} of {len(parks)} guests: {'; '.join(failed)}")
        with self._step(parkings[0]):
            for one in parkings:
                self._journal.intend(
                    entries.HandingOver(one.name, one.uuid, kernel.plan, kernel.release)
                )
            kernel.sync()
            deadline.check("handing over")
            self._journal.intend(kernel.leaving())
            self._leave(kernel)

    def _leave(self, kernel: NextKernel) -> NoReturn:
        """From here on it is the next kernel that brings guests back, unless this one goes on."""
        try:
            with self._changed:  # no resume begins before the end
                if self._closed:
                    raise UpdateFailed("the update was abandoned")
                kernel.start()
        except HarnessError as error:
            self._journal.note(entries.Stayed(error.message))
            raise

    def _park(self, parking: Parking, deadline: Deadline) -> None:
        """Park one guest. Raises UpdateFailed or DeadlineExpired."""
        deadline.check("parking")
        with self._step(parking):
            self._journal.note(entries.Parking(parking.name, parking.uuid))
            try:
                self._hypervisor.parking.park(parking, deadline)
            except HarnessError as error:
                said = f"could not be parked: {error.message}"
                raise UpdateFailed(said, guest=parking.name) from error
            self._journal.note(entries.Parked(parking.name, parking.uuid))

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
