"""What a run tells whoever is watching: one small event a step, to one observer.

The observer is a function (live table, plain lines, nothing). It is never called between the
first pause and the last resume, so a slow terminal costs the guests nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a guest, or the whole run, is."""

    PREPARING = "preparing"
    READY = "ready"
    WAITING = "waiting"
    PAUSED = "paused"
    MENDING = "mending"
    CHECKED = "checked"
    SOAKING = "soaking"
    LEFT_ALONE = "left alone"
    NOTE = "note"


@dataclass(frozen=True)
class Step:
    """One thing that happened; ``guests`` are those it concerns, in plan order."""

    phase: Phase
    text: str
    domain: str | None = None
    guests: tuple[str, ...] = ()


Observer = Callable[[Step], None]


def undisturbed(observer: Observer) -> Observer:
    """``observer``, except that a terminal that went away changes nothing for the guests."""

    def observe(step: Step) -> None:
        with suppress(OSError):
            observer(step)

    return observe


def silent(step: Step) -> None:
    """An observer that looks away."""
