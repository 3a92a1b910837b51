"""How figures and verdicts are said to people."""

from __future__ import annotations

from harness.records import CheckRecord, ClockReading, Outcome
from harness.report.spoken import duration as duration
from harness.report.spoken import printable as printable

#: How an outcome is coloured where there is colour.
STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.ERROR: "bold yellow",
    Outcome.SKIP: "dim",
}


def offset(reading: ClockReading | None, *, with_uncertainty: bool = True) -> str:
    """An offset as ``5.003 s slow ± 1.2 ms``; people are shown words, not signs."""
    if reading is None:
        return "–"
    said = f"{duration(abs(reading.offset_s))} {'slow' if reading.offset_s < 0 else 'fast'}"
    return f"{said} ± {duration(reading.uncertainty_s)}" if with_uncertainty else said


def measured(check: CheckRecord) -> str:
    """``measured vs allowed`` of one check, with its unit."""
    if check.measured is None:
        return ""
    if isinstance(check.measured, float) and isinstance(check.allowed, float):
        return f"{check.measured:.4f} vs {check.allowed:.4f} {check.unit or ''}".rstrip()
    return printable(f"{check.measured} vs {check.allowed} {check.unit or ''}").rstrip()
