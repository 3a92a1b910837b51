"""Text and durations as people are shown them; loads nothing, for commands that must be quick."""

from __future__ import annotations

import unicodedata


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
