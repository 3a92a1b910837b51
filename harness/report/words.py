"""How figures and verdicts are said to people."""

from __future__ import annotations

import unicodedata

from harness.records import CheckRecord, ClockReading, Outcome

#: How an outcome is coloured where there is colour.
STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.ERROR: "bold yellow",
    Outcome.SKIP: "dim",
}


def printable(text: str) -> str:
    """``text`` with control and formatting characters made visible.

    Names and guest output are data: an escape sequence in one must not reach the terminal.
    """
    return "".join(
        character
        if unicodedata.category(character)[0] != "C"
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def duration(seconds: float | None) -> str:
    """Seconds as people say them: ``812 µs``, ``3.9 ms``, ``5.012 s``; ``–`` if unknown."""
    if seconds is None:
        return "–"
    if abs(seconds) < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if abs(seconds) < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.3f} s"


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
