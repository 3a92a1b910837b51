"""Bringing back guests that were parked: the one way of the run, its guardian and recover.

Where a guest is, follows from what is there: its QEMU, or else its state and its RAM. It never runs
with other RAM than its own, and never by a state that it has left behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from harness.core.errors import DeadlineExpired, HarnessError
from harness.core.timebase import Clock, Deadline, NotYet, boot_ahead_ns
from harness.host.parking import Berth, Parking, Unparked
from harness.host.protocol import GuestState, Hypervisor
from harness.maintenance.pause.life import LifeSeen, process_in, see_life, vcpu_time_of
from harness.maintenance.pause.parkable import parking_of
from harness.maintenance.pause.takeover import PauseEdge
from harness.results.journal import Custody, Entry, GuestCustody, entries

#: One start of a QEMU; one that takes longer hangs. The slowest that was measured took 4 s, on a
#: machine with a load of 17.
START_S = 20.0
_TIDY_S = 5.0


class Pen(Protocol):
    """What is asked of a journal here."""

    def note(self, entry: Entry) -> None:
        """Write an entry. Never raises."""


def start(
    parking: Parking,
    hypervisor: Hypervisor,
    journal: Pen,
    by: str,
    deadline: Deadline,
    *,
    new: bool,
    start_s: float = 0.0,
) -> Unparked:
    """Start one QEMU with the guest's RAM, and journal how that went.

    One that hangs is ended, if there is time left: it is given ``start_s``, or else what any start
    is given. Raises HarnessError if it did not start; then
    the guest is parked as before, as far as is known.
    """
    journal.note(entries.Unparking(parking.name, parking.uuid, by, new))
    try:
        until = deadline.sooner(max(START_S, parking.start_s, start_s))
        found = hypervisor.parking.unpark(parking, until, new=new)
    except HarnessError as error:
        if isinstance(error, DeadlineExpired) and not deadline.expired:
            with suppress(HarnessError):
                hypervisor.parking.end_start(parking, deadline.sooner(_TIDY_S))
        journal.note(entries.UnparkRefused(parking.name, parking.uuid, new, error.message))
        raise
    journal.note(
        entries.Unparked(
            parking.name,
            parking.uuid,
            by,
            new,
            returned_ns=found.returned_ns + boot_ahead_ns(deadline.clock),
            **_life(found, hypervisor).fields,
        )
    )
    return found


def edge_of(said: entries.Unparked, clock: Clock) -> PauseEdge:
    """Return from where on it is judged whether an unparked guest is still ours."""
    began_ns = (said.returned_ns or 0) - boot_ahead_ns(clock)
    return PauseEdge(began_ns, process_in(said), said.vcpu_ns, started_by_us=True)


class Moved(Exception):
    """A guest that was to be resumed has no QEMU, or another one: it is brought back first."""


@dataclass
class Return:
    """One guest that may be parked, on its way back; used by one thread."""

    parking: Parking
    hypervisor: Hypervisor
    journal: Pen
    by: str
    deadline: Deadline
    """When it is given up."""
    known: bool = False
    """It is written that it was unparked, and nowhere that it was parked again."""
    _new: bool = False
    _start_s: float = 0.0
    """What a start is given that the one before did not end in."""

    def attempt(self, edge: PauseEdge) -> PauseEdge:
        """Have the guest have a QEMU: the old one, else the new one, in turns.

        Returns from where on it is judged whether it is ours: still ``edge`` if it was never
        parked, or nothing of it is there to start. Raises NotYet to be asked again.
        """
        try:
            berth = self._berth()
            if berth is Berth.LOST or self._booted_by_others(berth):
                return edge
            if berth is Berth.AFLOAT:
                return self._afloat(edge)
            self._new, new = not self._new, self._new
            found = start(
                self.parking,
                self.hypervisor,
                self.journal,
                self.by,
                self.deadline,
                new=new,
                start_s=self._start_s,
            )
        except HarnessError as error:
            if isinstance(error, DeadlineExpired):
                # It is slow, perhaps, and would be ended again and again.
                self._start_s = 2 * max(START_S, self._start_s)
            raise NotYet(str(error)) from error
        except NotYet:
            raise
        except Exception as error:  # a bug of harness gives up no guest that is parked
            raise NotYet(f"{type(error).__name__}: {error}") from error
        if self.parking.lasting:
            self.journal.note(entries.Consumed(self.parking.name, self.parking.uuid))
        seen = _life(found, self.hypervisor)
        return PauseEdge(found.returned_ns, seen.process, seen.vcpu_ns, started_by_us=True)

    def there(self) -> bool:
        """Whether it can be brought back, whatever libvirt says of it.

        Raises NotYet where that cannot be told: what was kept for it is not given up for that.
        """
        try:
            return self._berth() is not Berth.LOST
        except Exception as error:
            raise NotYet(str(error)) from error

    def settle(self) -> None:
        """It runs, or has ended: remove what was kept for it. Never raises."""
        until = Deadline.after(_TIDY_S, self.deadline.clock)
        with suppress(Exception):
            self.hypervisor.parking.settle(self.parking, until)
            self.journal.note(entries.Settled(self.parking.name, self.parking.uuid))

    def _berth(self) -> Berth:
        return self.hypervisor.parking.berth(self.parking, self.deadline.sooner(START_S))

    def _afloat(self, edge: PauseEdge) -> PauseEdge:
        """It has its RAM; what else there is to put in order keeps it from nothing."""
        until = self.deadline.sooner(_TIDY_S)
        with suppress(HarnessError):
            self.hypervisor.parking.unpark(self.parking, until, new=False)
        seen = see_life(self.parking.uuid, self.hypervisor, until)
        if seen.process is None:  # libvirt has ended it: who is started next is no stranger's
            raise NotYet("its QEMU has gone while it was looked at")
        if seen.process == edge.process:
            return edge
        now_ns = self.deadline.clock.monotonic_ns()
        return PauseEdge(now_ns, seen.process, seen.vcpu_ns, started_by_us=True)

    def _booted_by_others(self, berth: Berth) -> bool:
        if berth is not Berth.ADRIFT:
            return False
        reading = self.hypervisor.state(self.parking.uuid, self.deadline.sooner(START_S))
        return reading.state is GuestState.RUNNING


def returns(
    parkings: Mapping[str, Parking],
    told: Mapping[str, GuestCustody],
    hypervisor: Hypervisor,
    journal: Pen,
    by: str,
    deadline: Deadline,
) -> dict[str, Return]:
    """Return by UUID how each guest that may be parked is brought back.

    ``told`` is what the journal says now; ``parkings`` is what was known before, which counts also
    where the journal cannot be read.
    """
    said = {uuid: parking_of(one.parkable) for uuid, one in told.items() if one.parkable}
    found = {}
    for uuid, parking in {**parkings, **said}.items():
        custody = told.get(uuid)
        known = custody is not None and custody.custody is Custody.UNPARKED
        found[uuid] = Return(parking, hypervisor, journal, by, deadline, known=known)
    return found


def _life(found: Unparked, hypervisor: Hypervisor) -> LifeSeen:
    return LifeSeen(found.process, vcpu_time_of(found.process, hypervisor))
