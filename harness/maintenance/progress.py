"""What a run tells its observer: one small event a step, to one observer.

The observer is a function (live table, plain lines, nothing). It is never called between the
first pause and the last resume, so a slow terminal costs the guests nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Phase(StrEnum):
    """Where a guest, or the whole run, is."""

    PREPARING = "preparing"
    READY = "ready"
    WAITING = "waiting"
    PAUSED = "paused"
    CORRECTING = "correcting"
    CORRECTED = "corrected"
    CHECKED = "checked"
    SOAKING = "soaking"
    LEFT_ALONE = "left alone"
    NOTE = "note"


@dataclass(frozen=True)
class Meanwhile:
    """What can be looked at at any time of a pause window, in which there is no step."""

    output: Path
    """What the update's programs print, once there is a file of that name."""
    interrupted_by: Callable[[], str | None]
    """Returns the signal that has asked the run to stop."""


@dataclass(frozen=True)
class Step:
    """One thing that happened; ``guests`` are those it concerns, in plan order."""

    phase: Phase
    text: str
    domain: str | None = None
    guests: tuple[str, ...] = ()
    meanwhile: Meanwhile | None = None
    """Of the last step before a pause window."""


Observer = Callable[[Step], None]


def undisturbed(observer: Observer) -> Observer:
    """Return ``observer``, except that nothing that it raises changes anything for the guests.

    A terminal that went away, an encoding that lacks a character, a bug, a SystemExit that a
    library makes of a broken pipe.
    """

    def observe(step: Step) -> None:
        try:
            observer(step)
        except BaseException as error:
            logging.getLogger(__name__).debug("the observer failed", exc_info=error)

    return observe


def silent(step: Step) -> None:
    """An observer that looks away."""
