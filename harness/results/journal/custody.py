"""Who is held by a run, and what is left to do for each guest: what follows from its journal. Pure.

The only place that decides so, for the run, its guardian, ``harness recover`` and the report. A
guest is *held* from the journalled intent to pause it until the run, its guardian or ``harness
recover`` has written that it runs, has ended, or was never paused. A journal can be incomplete (a
damaged line), so what comes later implies what must have come before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial

from harness.core.timebase import NS_PER_S
from harness.results.journal.entries import (
    Armed,
    Arrived,
    Consumed,
    Ended,
    HandingOver,
    Leaving,
    Life,
    Member,
    Mended,
    Parkable,
    Parked,
    Parking,
    Paused,
    Pausing,
    Recovered,
    Refused,
    Resumed,
    Resuming,
    RunFinished,
    RunStarted,
    Saved,
    Settled,
    Stayed,
    TakenOver,
    Unparked,
    Unparking,
    UnparkRefused,
    UpdateDomainBegun,
)
from harness.results.journal.parse import Line, Reading

#: Entries about one guest.
About = (
    Paused
    | Parking
    | Parked
    | Unparking
    | UnparkRefused
    | Unparked
    | HandingOver
    | Consumed
    | Settled
    | Refused
    | Resumed
    | TakenOver
    | Saved
    | Ended
    | Mended
)


class Custody(StrEnum):
    """Where a guest is on its way through a pause window."""

    PAUSING = "pausing"
    """The run may have paused it."""
    PAUSED = "paused"
    PARKING = "parking"
    """It has its QEMU still, or no more."""
    PARKED = "parked"
    """It has no QEMU; its RAM and its state are in their files."""
    HANDED_OVER = "handed over"
    """It has no QEMU; this kernel, or the next one, brings it back."""
    UNPARKING = "unparking"
    UNPARKED = "unparked"
    """It has a QEMU again, and is paused."""
    REFUSED = "refused"
    RESUMED = "resumed"
    TAKEN_OVER = "taken over"
    SAVED = "saved"
    """On disk, as it was: paused by the run."""
    ENDED = "ended"


class ToDo(StrEnum):
    """What is left to do for a guest."""

    UNPARK = "unpark"
    RESUME = "resume"
    CORRECT_CLOCK = "correct the clock"


#: What brings a guest back, in this order. A guest in a state of this table with RESUME is held.
_LEFT_TO_DO: dict[Custody, tuple[ToDo, ...]] = {
    Custody.PAUSING: (ToDo.RESUME, ToDo.CORRECT_CLOCK),
    Custody.PAUSED: (ToDo.RESUME, ToDo.CORRECT_CLOCK),
    Custody.PARKING: (ToDo.UNPARK, ToDo.RESUME, ToDo.CORRECT_CLOCK),
    Custody.PARKED: (ToDo.UNPARK, ToDo.RESUME, ToDo.CORRECT_CLOCK),
    Custody.HANDED_OVER: (ToDo.UNPARK, ToDo.RESUME, ToDo.CORRECT_CLOCK),
    Custody.UNPARKING: (ToDo.UNPARK, ToDo.RESUME, ToDo.CORRECT_CLOCK),
    Custody.UNPARKED: (ToDo.RESUME, ToDo.CORRECT_CLOCK),
    Custody.REFUSED: (),
    Custody.RESUMED: (ToDo.CORRECT_CLOCK,),
    Custody.TAKEN_OVER: (ToDo.CORRECT_CLOCK,),
    Custody.SAVED: (ToDo.RESUME, ToDo.CORRECT_CLOCK),
    Custody.ENDED: (ToDo.CORRECT_CLOCK,),  # of a guest that has ended there is no clock to read
}

#: A guest that runs, or has ended, is not parked by a line that was written late.
_HELD = tuple(custody for custody, left in _LEFT_TO_DO.items() if ToDo.RESUME in left)

#: What a guest's custody becomes by an entry about it, and from where; an empty tuple: from all.
#: An entry that is not here, or comes in another custody, leaves it as it is.
_BECOMES: dict[type[About], tuple[Custody, tuple[Custody, ...]]] = {
    # A call that was given up may be told after the resume.
    Paused: (Custody.PAUSED, (Custody.PAUSING,)),
    Parking: (Custody.PARKING, _HELD),
    Parked: (Custody.PARKED, _HELD),
    HandingOver: (Custody.HANDED_OVER, _HELD),
    Unparking: (Custody.UNPARKING, _HELD),
    UnparkRefused: (Custody.PARKED, _HELD),
    Unparked: (Custody.UNPARKED, _HELD),
    Refused: (Custody.REFUSED, ()),
    Resumed: (Custody.RESUMED, ()),
    TakenOver: (Custody.TAKEN_OVER, ()),
    Saved: (Custody.SAVED, (Custody.PAUSING, Custody.PAUSED)),
    Ended: (Custody.ENDED, ()),
}


@dataclass(frozen=True)
class GuestCustody:
    """One guest in one pause window; stamps are the host's CLOCK_BOOTTIME, None: never."""

    member: Member
    custody: Custody = Custody.PAUSING
    paused_ns: int | None = None
    pause: Paused | None = None
    """What was known of it when it had been paused."""
    life: Life | None = None
    """Its process, and its vCPUs' time: after its pause, or else before the intent to pause it."""
    parkable: Parkable | None = None
    """How it is brought back if it is parked; None for one that is never parked."""
    unpark: Unparked | None = None
    """What was known of it when it had a QEMU again."""
    consumed: bool = False
    """Its saved state is gone for good: it lives in its QEMU, or has ended with that."""
    settled_ns: int | None = None
    """When what was kept for it had been removed."""
    guarded_s: float | None = None
    """For how long after the intent the run can have had a call under way that pauses it."""
    resuming_ns: int | None = None
    resuming_by: frozenset[str] = frozenset()
    """Who has started to resume it: run, guardian, recover."""
    resumed_ns: Mapping[str, int] = field(default_factory=dict)
    """By who resumed it, or found it running: run, guardian, recover."""
    taken_over_ns: int | None = None
    mended_ns: int | None = None

    @property
    def runs_since_ns(self) -> int | None:
        """When it was last written that the guest runs, by any process."""
        stamps = [*self.resumed_ns.values(), self.taken_over_ns]
        return max((stamp for stamp in stamps if stamp is not None), default=None)

    @property
    def held(self) -> bool:
        """The run may have it paused, and must bring it back."""
        return ToDo.RESUME in self.todo

    @property
    def todo(self) -> tuple[ToDo, ...]:
        """What is left to do, in this order."""
        left = _LEFT_TO_DO[self.custody]
        if self.mended_ns is None:
            return left
        return tuple(one for one in left if one is not ToDo.CORRECT_CLOCK)


@dataclass(frozen=True)
class Window:
    """One pause window; stamps are the host's CLOCK_BOOTTIME."""

    domain: str
    began_ns: int
    """When the intent to pause its guests was written."""
    guests: Mapping[str, GuestCustody]
    """By UUID, in the order in which they were to be paused."""
    last_ns: int
    """When the last entry about one of its guests was written."""


@dataclass(frozen=True)
class History:
    """What a journal tells of its run."""

    started: RunStarted | None = None
    domain: str = ""
    """The update domain of the last window, or of the next one."""
    windows: tuple[Window, ...] = ()
    ended: bool = False
    """Nothing is left to do for anyone: the run or ``harness recover`` has said so."""
    parkable: Mapping[str, Parkable] = field(default_factory=dict)
    """The guests that the last window, or the next one, may park; by UUID."""
    left: Leaving | None = None
    """The host's kernel was left for another one."""
    arrived: Arrived | None = None
    """The boot that has taken over what was handed over."""
    notices: tuple[str, ...] = ()
    """What of the journal could not be understood, so that the rest may be incomplete."""

    @property
    def guests(self) -> Mapping[str, GuestCustody]:
        """Every guest that was to be paused, by UUID, as of its last window."""
        return {uuid: guest for window in self.windows for uuid, guest in window.guests.items()}

    @property
    def boot_id(self) -> str:
        """The boot of the host that the guests' processes are of; empty: unknown."""
        if self.arrived is not None:
            return self.arrived.boot_id
        return self.started.boot_id if self.started is not None else ""

    @property
    def held(self) -> tuple[Member, ...]:
        """The guests that the run may have paused and must bring back, in order."""
        return tuple(guest.member for guest in self.guests.values() if guest.held)


def fold(reading: Reading) -> History:
    """Return what follows from all entries of a journal."""
    history = History(notices=reading.notices)
    for line in reading.lines:
        history = _after(history, line)
    return history


def _after(history: History, line: Line) -> History:
    match line.entry:
        case RunStarted() as started:
            return replace(history, started=started)
        case UpdateDomainBegun(name):
            return replace(history, domain=name)
        case Pausing(members, lives):
            known = {life.uuid: life for life in lives}
            guests = {
                one.uuid: GuestCustody(
                    one, life=known.get(one.uuid), parkable=history.parkable.get(one.uuid)
                )
                for one in members
            }
            window = Window(history.domain, line.boottime_ns, guests, line.boottime_ns)
            return replace(history, windows=(*history.windows, window))
        case Parkable() as parkable:
            return _parkable(history, parkable)
        case Leaving() | Stayed() | Arrived() as step:
            return _between_boots(history, step)
        case Armed(limit_s):
            return _guarded(history, line.boottime_ns, limit_s)
        case RunFinished() | Recovered():
            return replace(history, ended=True)
        case Resuming(by, members):
            for member in members:
                history = _with(history, member, partial(_resuming, by=by), line.boottime_ns)
            return history
    return _after_about(history, line)


def _after_about(history: History, line: Line) -> History:
    about = line.entry
    if not isinstance(about, About):
        return history
    member = Member(about.guest, about.uuid)
    after = isinstance(about, Mended | Settled)
    ran = GuestCustody(member, Custody.RESUMED) if after else None
    return _with(history, member, partial(_told, about=about), line.boottime_ns, ran)


def _parkable(history: History, parkable: Parkable) -> History:
    """Of the next window; or, after a boot, where a guest of the last one is kept by now."""
    history = replace(history, parkable={**history.parkable, parkable.uuid: parkable})
    if history.arrived is None:
        return history
    return _each(history, lambda one: replace(one, parkable=history.parkable.get(one.member.uuid)))


def _between_boots(history: History, step: Leaving | Stayed | Arrived) -> History:
    if isinstance(step, Arrived):
        return _arrived(history, step)
    return replace(history, left=step if isinstance(step, Leaving) else None)


def _arrived(history: History, arrived: Arrived) -> History:
    """Of earlier boots only the files are left: a guest whose state is gone ended with its boot."""

    def after(guest: GuestCustody) -> GuestCustody:
        lost = guest.consumed or guest.parkable is None or bool(arrived.problem)
        ended = lost and guest.custody is not Custody.REFUSED
        custody = Custody.ENDED if ended else guest.custody
        return replace(guest, custody=custody, pause=None, life=None, unpark=None)

    # Another line of the same boot tells nothing of the processes that it has started.
    known = history.arrived is not None and history.arrived.boot_id == arrived.boot_id
    history = replace(history, arrived=arrived)
    return history if known else _each(history, after)


def _each(history: History, change: Callable[[GuestCustody], GuestCustody]) -> History:
    """Change what is known of every guest in every window."""
    windows = tuple(
        replace(one, guests={uuid: change(guest) for uuid, guest in one.guests.items()})
        for one in history.windows
    )
    return replace(history, windows=windows)


def _guarded(history: History, at_ns: int, limit_s: float) -> History:
    """Tell the guests of the last window until when the run can have paused them."""
    if not history.windows:
        return history
    *earlier, last = history.windows
    guarded_s = (at_ns - last.began_ns) / NS_PER_S + limit_s
    guests = {uuid: replace(one, guarded_s=guarded_s) for uuid, one in last.guests.items()}
    return replace(history, windows=(*earlier, replace(last, guests=guests)))


def _with(
    history: History,
    member: Member,
    change: Callable[[GuestCustody, int], GuestCustody],
    at_ns: int,
    unknown: GuestCustody | None = None,
) -> History:
    """Change what is known of a guest in its window.

    A guest that no window knows was paused by an intent that is lost; a line about it says so.
    """
    *earlier, last = history.windows or (Window(history.domain, at_ns, {}, at_ns),)
    fresh = unknown or GuestCustody(member)
    fresh = replace(fresh, parkable=history.parkable.get(member.uuid))
    guest = change(last.guests.get(member.uuid) or fresh, at_ns)
    guests = {**last.guests, member.uuid: guest}
    window = replace(last, guests=guests, last_ns=max(last.last_ns, at_ns))
    return replace(history, windows=(*earlier, window))


def _resuming(guest: GuestCustody, at_ns: int, by: str) -> GuestCustody:
    first_ns = at_ns if guest.resuming_ns is None else guest.resuming_ns
    return replace(guest, resuming_ns=first_ns, resuming_by=guest.resuming_by | {by})


def _told(guest: GuestCustody, at_ns: int, about: About) -> GuestCustody:
    becomes, sources = _BECOMES.get(type(about), (guest.custody, ()))
    if not sources or guest.custody in sources:
        guest = replace(guest, custody=becomes)
    match about:
        case Paused():
            return replace(guest, paused_ns=at_ns, pause=about, life=_life(about) or guest.life)
        case Unparked():
            return replace(guest, unpark=about, life=_life(about) or guest.life)
        case Consumed():
            return replace(guest, consumed=True)
        case Settled():
            return replace(guest, settled_ns=at_ns)
        case Resumed(by=by):
            return replace(guest, resumed_ns={**guest.resumed_ns, by: at_ns})
        case TakenOver():
            return replace(guest, taken_over_ns=at_ns)
        case Mended():
            return replace(guest, mended_ns=at_ns)
    return guest


def _life(pause: Paused | Unparked) -> Life | None:
    if pause.qemu_pid is None or pause.qemu_start_ticks is None:
        return None
    return Life(pause.uuid, pause.qemu_pid, pause.qemu_start_ticks, pause.vcpu_ns)
