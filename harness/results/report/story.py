"""The way of every guest through a run, from the journal and the record: what a timeline shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.core.records import GuestRecord, RunRecord
from harness.core.timebase import NS_PER_S

Entry = Mapping[str, Any]


class Stretch(StrEnum):
    """What a guest was doing for a while."""

    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    STALE = "stale clock"
    CORRECTED = "corrected"
    RUNNING = "running"


@dataclass(frozen=True)
class Span:
    """One stretch, in seconds since the update domain's guests began to be paused."""

    what: Stretch
    start_s: float
    end_s: float


@dataclass
class GuestStory:
    """One guest's stretches, in order."""

    name: str
    spans: list[Span] = field(default_factory=list)


@dataclass
class DomainStory:
    """One update domain; ``end_s`` is where its picture ends."""

    name: str
    guests: list[GuestStory]
    end_s: float


@dataclass
class _Stamps:
    """When something was first said of a guest, in seconds; None: never."""

    paused_s: float | None = None
    resuming_s: float | None = None
    resumed_s: float | None = None
    mended_s: float | None = None
    refused: bool = False


@dataclass
class _Window:
    name: str
    t0_ns: int
    names: dict[str, str]
    """By UUID, in the order of the plan."""
    stamps: dict[str, _Stamps]
    last_s: float = 0.0


def tell(record: RunRecord, entries: Iterable[Entry]) -> list[DomainStory]:
    """A story for each update domain whose guests were paused; what is unknown is left out."""
    known = {guest.uuid: guest for guest in record.guests}
    return [_story(window, known, record.budget_s) for window in _windows(entries)]


def _windows(entries: Iterable[Entry]) -> list[_Window]:
    windows: list[_Window] = []
    domain = ""
    for entry in entries:
        event = entry.get("event")
        if event == "update domain":
            domain = str(entry.get("name", ""))
        elif event == "pausing":
            names = {guest["uuid"]: guest["name"] for guest in entry["guests"]}
            stamps = {uuid: _Stamps() for uuid in names}
            windows.append(_Window(domain, entry["boottime_ns"], names, stamps))
        elif windows:
            _note(windows[-1], entry)
    return windows


def _note(window: _Window, entry: Entry) -> None:
    at_s = (entry["boottime_ns"] - window.t0_ns) / NS_PER_S
    event = entry.get("event")
    uuids = [guest["uuid"] for guest in entry.get("guests", []) if isinstance(guest, Mapping)]
    for uuid in [*uuids, entry.get("uuid")]:
        stamps = window.stamps.get(str(uuid))
        if stamps is None:
            continue
        window.last_s = max(window.last_s, at_s)
        if event == "paused":
            stamps.paused_s = at_s
        elif event == "resuming" and stamps.resuming_s is None:
            stamps.resuming_s = at_s
        elif event in ("resumed", "taken over"):
            stamps.resumed_s = at_s
        elif event == "mended":
            stamps.mended_s = at_s
        elif event == "refused":
            stamps.refused = True


def _story(window: _Window, known: Mapping[str, GuestRecord], budget_s: float) -> DomainStory:
    # To just beyond the budget, or the last thing that happened, with room to see what came next.
    end_s = max(budget_s * 1.04, window.last_s * 1.04)
    guests = [
        GuestStory(name, _spans(window.stamps[uuid], known.get(uuid), end_s))
        for uuid, name in window.names.items()
    ]
    return DomainStory(window.name, guests, end_s)


def _spans(stamps: _Stamps, guest: GuestRecord | None, end_s: float) -> list[Span]:
    if stamps.refused:
        return [Span(Stretch.RUNNING, 0.0, end_s)]
    right_s = _clock_right_s(stamps, guest)
    corrected = guest is None or guest.clock.method is not None
    points = [
        (Stretch.PAUSING, 0.0),
        (Stretch.PAUSED, stamps.paused_s),
        (Stretch.RESUMING, stamps.resuming_s),
        (Stretch.STALE, stamps.resumed_s),
        (Stretch.CORRECTED if corrected else Stretch.RUNNING, right_s),
    ]
    reached = [(what, at_s) for what, at_s in points if at_s is not None]
    ends = [at_s for _, at_s in reached[1:]] + [end_s]
    return [
        Span(what, at_s, max(at_s, until_s))
        for (what, at_s), until_s in zip(reached, ends, strict=True)
    ]


def _clock_right_s(stamps: _Stamps, guest: GuestRecord | None) -> float | None:
    """When the clock was known to be right: as the record says, else as the journal does."""
    if stamps.resumed_s is None:
        return None
    if guest is not None and guest.stale_clock_window_s is not None:
        return stamps.resumed_s + guest.stale_clock_window_s
    return stamps.mended_s
