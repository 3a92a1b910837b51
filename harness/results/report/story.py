"""The way of every guest through a run, from the journal and the record: what a timeline shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.core.records import GuestRecord, Outcome, RunRecord
from harness.core.timebase import NS_PER_S
from harness.results.journal import Custody, GuestCustody, History, Window


class Stretch(StrEnum):
    """What a guest was doing for a while."""

    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    STALE = "stale clock"
    WRONG = "wrong clock"
    CORRECTED = "corrected"
    RUNNING = "running"


@dataclass(frozen=True)
class Span:
    """One stretch, in seconds since the update domain's guests began to be paused."""

    what: Stretch
    start_s: float
    end_s: float


@dataclass(frozen=True)
class GuestStory:
    """One guest's stretches, in order."""

    name: str
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class DomainStory:
    """One update domain; ``end_s`` is where its picture ends, beyond the last that is known."""

    name: str
    guests: tuple[GuestStory, ...]
    end_s: float


def tell(record: RunRecord, history: History) -> list[DomainStory]:
    """Return a story for each update domain whose guests were paused; unknowns are left out."""
    known = {guest.uuid: guest for guest in record.guests}
    return [_story(window, known, record.budget_s) for window in history.windows]


def _story(window: Window, known: Mapping[str, GuestRecord], budget_s: float) -> DomainStory:
    # To just beyond the budget, or the last thing that happened, with room to see what came next.
    last_s = (window.last_ns - window.began_ns) / NS_PER_S
    end_s = max(budget_s * 1.04, last_s * 1.04)
    guests = tuple(
        GuestStory(
            guest.member.name, tuple(_spans(guest, window.began_ns, known.get(uuid), last_s))
        )
        for uuid, guest in window.guests.items()
    )
    return DomainStory(window.domain, guests, end_s)


def _spans(
    guest: GuestCustody, t0_ns: int, record: GuestRecord | None, last_s: float
) -> list[Span]:
    """Return the stretches up to ``last_s``, when the last that is known of it was written."""
    if guest.custody is Custody.REFUSED:
        return [Span(Stretch.RUNNING, 0.0, last_s)]

    def since_t0(stamp_ns: int | None) -> float | None:
        return None if stamp_ns is None else (stamp_ns - t0_ns) / NS_PER_S

    resumed_s = since_t0(guest.runs_since_ns)
    right_s = _clock_right_s(resumed_s, since_t0(guest.mended_ns), record)
    points = [
        (Stretch.PAUSING, 0.0),
        (Stretch.PAUSED, since_t0(guest.paused_ns)),
        (Stretch.RESUMING, since_t0(guest.resuming_ns)),
        (Stretch.STALE, resumed_s),
        (_in_the_end(record), right_s),
    ]
    reached = [(what, at_s) for what, at_s in points if at_s is not None]
    ends = [at_s for _, at_s in reached[1:]] + [last_s]
    return [
        Span(what, at_s, max(at_s, until_s))
        for (what, at_s), until_s in zip(reached, ends, strict=True)
    ]


def _in_the_end(record: GuestRecord | None) -> Stretch:
    """Return what a guest is in after its clock was tended: a wrong clock stays wrong."""
    if record is None:
        return Stretch.CORRECTED
    judged = {check.name: check.outcome for check in record.checks}
    if record.stale_clock_window_s is None and judged.get("clock") in (Outcome.FAIL, Outcome.ERROR):
        return Stretch.WRONG
    return Stretch.CORRECTED if record.clock.method is not None else Stretch.RUNNING


def _clock_right_s(
    resumed_s: float | None, mended_s: float | None, record: GuestRecord | None
) -> float | None:
    """When the clock was known to be right: as the record says, else as the journal does."""
    if resumed_s is None:
        return None
    if record is not None and record.stale_clock_window_s is not None:
        return resumed_s + record.stale_clock_window_s
    return mended_s
