"""What follows from a journal: who is held, and what is left to do for each guest. Pure.

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

from harness.results.journal.entries import (
    Ended,
    Member,
    Mended,
    Paused,
    Pausing,
    Recovered,
    Refused,
    Resumed,
    Resuming,
    RunFinished,
    RunStarted,
    TakenOver,
    UpdateDomainBegun,
)
from harness.results.journal.parse import Line, Reading

#: Entries about one guest.
About = Paused | Refused | Resumed | TakenOver | Ended | Mended


class Custody(StrEnum):
    """Where a guest is on its way through a pause window."""

    PAUSING = "pausing"
    """The run may have paused it."""
    PAUSED = "paused"
    REFUSED = "refused"
    RESUMED = "resumed"
    TAKEN_OVER = "taken over"
    ENDED = "ended"


class ToDo(StrEnum):
    """What is left to do for a guest."""

    RESUME = "resume"
    CORRECT_CLOCK = "correct the clock"


#: What brings a guest back, in this order. A guest in a state of this table with RESUME is held.
_LEFT_TO_DO: dict[Custody, tuple[ToDo, ...]] = {
    Custody.PAUSING: (ToDo.RESUME, ToDo.CORRECT_CLOCK),
    Custody.PAUSED: (ToDo.RESUME, ToDo.CORRECT_CLOCK),
    Custody.REFUSED: (),
    Custody.RESUMED: (ToDo.CORRECT_CLOCK,),
    Custody.TAKEN_OVER: (ToDo.CORRECT_CLOCK,),
    Custody.ENDED: (ToDo.CORRECT_CLOCK,),  # of a guest that has ended there is no clock to read
}


@dataclass(frozen=True)
class GuestCustody:
    """One guest in one pause window; stamps are the host's CLOCK_BOOTTIME, None: never."""

    member: Member
    custody: Custody = Custody.PAUSING
    paused_ns: int | None = None
    pause: Paused | None = None
    """What was known of it when it had been paused."""
    resuming_ns: int | None = None
    resuming_by: frozenset[str] = frozenset()
    """Who has started to resume it: run, guardian, recover."""
    resumed_ns: Mapping[str, int] = field(default_factory=dict)
    """By who resumed it, or found it running: run, guardian, recover."""
    taken_over_ns: int | None = None
    mended_ns: int | None = None

    @property
    def runs_since_ns(self) -> int | None:
        """When it was last written that the guest runs, whoever resumed it."""
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
        return left if self.mended_ns is None else tuple(t for t in left if t is ToDo.RESUME)


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
    notices: tuple[str, ...] = ()
    """What of the journal could not be understood, so that the rest may be incomplete."""

    @property
    def guests(self) -> Mapping[str, GuestCustody]:
        """Every guest that was to be paused, by UUID, as of its last window."""
        return {uuid: guest for window in self.windows for uuid, guest in window.guests.items()}

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
        case Pausing(members):
            guests = {member.uuid: GuestCustody(member) for member in members}
            window = Window(history.domain, line.boottime_ns, guests, line.boottime_ns)
            return replace(history, windows=(*history.windows, window))
        case RunFinished() | Recovered():
            return replace(history, ended=True)
        case Resuming(by, members):
            for member in members:
                history = _with(history, member, partial(_resuming, by=by), line.boottime_ns)
            return history
        case Paused() | Refused() | Resumed() | TakenOver() | Ended() | Mended() as about:
            member = Member(about.guest, about.uuid)
            ran = GuestCustody(member, Custody.RESUMED) if isinstance(about, Mended) else None
            return _with(history, member, partial(_told, about=about), line.boottime_ns, ran)
    return history


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
    guest = change(last.guests.get(member.uuid) or unknown or GuestCustody(member), at_ns)
    guests = {**last.guests, member.uuid: guest}
    window = replace(last, guests=guests, last_ns=max(last.last_ns, at_ns))
    return replace(history, windows=(*earlier, window))


def _resuming(guest: GuestCustody, at_ns: int, by: str) -> GuestCustody:
    first_ns = at_ns if guest.resuming_ns is None else guest.resuming_ns
    return replace(guest, resuming_ns=first_ns, resuming_by=guest.resuming_by | {by})


def _told(guest: GuestCustody, at_ns: int, about: About) -> GuestCustody:
    match about:
        case Paused():
            # A call that was given up may be told after the resume.
            after = Custody.PAUSED if guest.custody is Custody.PAUSING else guest.custody
            return replace(guest, custody=after, paused_ns=at_ns, pause=about)
        case Refused():
            return replace(guest, custody=Custody.REFUSED)
        case Resumed(by=by):
            resumed_ns = {**guest.resumed_ns, by: at_ns}
            return replace(guest, custody=Custody.RESUMED, resumed_ns=resumed_ns)
        case TakenOver():
            return replace(guest, custody=Custody.TAKEN_OVER, taken_over_ns=at_ns)
        case Ended():
            return replace(guest, custody=Custody.ENDED)
        case Mended():
            return replace(guest, mended_ns=at_ns)
