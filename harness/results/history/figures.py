"""The figures of a run that are worth comparing over nights. All are better when smaller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.records import GuestRecord, RunRecord

#: Stands for the whole run where a figure is one of a guest otherwise.
RUN = ""


@dataclass(frozen=True)
class Kind:
    """One figure: what it is in, and how much of a change is worth a word at all."""

    unit: str
    matters: float
    """A change smaller than this (in the figure's unit) is never called a regression."""
    title: str
    meaning: str


#: The figures that a regression is looked for in.
KINDS = {
    "pause_window_s": Kind("s", 0.1, "Pause window", "longest pause of an update domain"),
    "overhead_s": Kind(
        "s",
        0.01,
        "Overhead of the pause window",
        "of that, what the harness itself cost; the worst domain",
    ),
    "stale_clock_window_s": Kind(
        "s", 0.1, "Resume to corrected clock", "resume to corrected clock; the worst guest"
    ),
    "residual_s": Kind(
        "s", 0.002, "Clock offset in the end", "|offset| in the end; the worst guest"
    ),
    "uncertainty_s": Kind(
        "s", 0.002, "Uncertainty of the clock offset", "uncertainty of that offset; the worst guest"
    ),
    "duration_s": Kind("s", 2.0, "Duration of the run", "the whole run"),
}


#: What the figures ``check.NAME`` are in.
CHECK_UNITS = {
    **dict.fromkeys(("clock", "watch", "downtime", "frozen", "lag", "pause-window"), "s"),
    **dict.fromkeys(("timers", "vcpus"), "s"),
    "connections": "connections broken",
    "disk": "blocks",
    "kernel-log": "lines",
    "mounts": "file systems changed",
    "processes": "processes gone",
    "ram": "bytes",
    "tcp-session": "messages",
}


def unit_of(figure: str) -> str:
    """Return the unit of a figure; "" for that of a check of the user's own."""
    kind = KINDS.get(figure)
    return kind.unit if kind else CHECK_UNITS.get(figure.removeprefix("check."), "")


@dataclass(frozen=True)
class Figure:
    """One measured value of one run; ``guest`` is ``RUN`` for the run's own."""

    guest: str
    name: str
    value: float


def figures_of(record: RunRecord) -> list[Figure]:
    """Every figure of a run: each guest's own, then the worst of all under ``RUN``."""
    found = [
        Figure(guest.name, name, value)
        for guest in record.guests
        for name, value in _of_guest(guest)
    ]
    worst: dict[str, float] = {}
    for figure in found:
        worst[figure.name] = max(worst.get(figure.name, figure.value), figure.value)
    for name, value in _of_domains(record):
        worst[name] = max(worst.get(name, value), value)
    if record.finished_at is not None:
        worst["duration_s"] = (record.finished_at - record.started_at).total_seconds()
    return found + [Figure(RUN, name, value) for name, value in worst.items()]


def _of_guest(guest: GuestRecord) -> Iterable[tuple[str, float]]:
    end = guest.clock.after_correction or guest.clock.after_resume
    known = {
        "pause_window_s": guest.pause_window_s,
        "stale_clock_window_s": guest.stale_clock_window_s,
        "residual_s": abs(end.offset_s) if end else None,
        "uncertainty_s": end.uncertainty_s if end else None,
    }
    yield from ((name, value) for name, value in known.items() if value is not None)
    for check in guest.checks:
        if isinstance(check.measured, float):
            yield f"check.{check.name}", abs(check.measured)


def _of_domains(record: RunRecord) -> Iterable[tuple[str, float]]:
    for domain in record.update_domains:
        if domain.pause_window_s is not None:
            yield "pause_window_s", domain.pause_window_s
        if domain.overhead_s is not None:
            yield "overhead_s", domain.overhead_s
