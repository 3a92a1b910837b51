"""How figures and verdicts are worded for people."""

from __future__ import annotations

from harness.core.records import CheckRecord, ClockReading, GuestRecord, Outcome
from harness.results.report.spoken import duration as duration
from harness.results.report.spoken import minus as minus
from harness.results.report.spoken import printable as printable

#: How an outcome is coloured where there is colour.
STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.ERROR: "bold yellow",
    Outcome.SKIP: "dim",
}

_MIB = 1 << 20


def offset(reading: ClockReading | None, *, with_uncertainty: bool = True) -> str:
    """An offset as ``5.003 s slow ± 1.2 ms``; people are shown words, not signs."""
    if reading is None:
        return "–"
    said = f"{duration(abs(reading.offset_s))} {'slow' if reading.offset_s < 0 else 'fast'}"
    return f"{said} ± {duration(reading.uncertainty_s)}" if with_uncertainty else said


def quantity(
    value: float | int | str | None, unit: str | None, like: float | int | str | None = None
) -> str:
    """A figure with its unit, as people say it: ``12.5 ms``, ``1.0 MiB``, ``0 lines``.

    ``like``: another figure of the same row; the larger of the two says the unit of both.
    """
    if value is None:
        return "–"
    if unit == "s" and not isinstance(value, str):
        other = 0.0 if like is None or isinstance(like, str) else float(like)
        return duration(value, like=max(abs(value), abs(other)))
    if unit == "bytes" and not isinstance(value, str) and abs(value) >= _MIB / 10:
        return f"{value / _MIB:.1f} MiB"
    said = value if isinstance(value, str) else minus(f"{value:g}")
    return printable(f"{said} {_counted(value, unit)}").rstrip()


def _counted(value: float | int | str, unit: str | None) -> str:
    """Return the unit, which may be a noun in the plural: ``1 timer unit``."""
    if unit is None or value != 1 or not unit.endswith("s") or unit == "s":
        return unit or ""
    return unit.removesuffix("s")


def in_short(guest: GuestRecord) -> str:
    """What became of a guest, in a few words: ``pass: paused 5.012 s, clock 200 µs fast``."""
    end = guest.clock.after_correction or guest.clock.after_resume
    parts = [f"paused {duration(guest.pause_window_s)}"] if guest.pause_window_s else []
    parts += [f"clock {offset(end)}"] if end else []
    return f"{guest.outcome.value}: {', '.join(parts)}" if parts else guest.outcome.value


def measured(check: CheckRecord) -> str:
    """``measured vs allowed`` of one check, with their unit."""
    if check.measured is None:
        return ""
    said = quantity(check.measured, check.unit, check.allowed)
    return f"{said} vs {quantity(check.allowed, check.unit, check.measured)}"
