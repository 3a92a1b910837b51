"""Text and durations as people are shown them; loads nothing, for commands that must be quick."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """``text`` with control and formatting characters made visible.

    Names and guest output are data: an escape sequence in one must not reach the terminal.
    """
    if text.isprintable():  # nearly every text, and at once
        return text
    return "".join(
        character
        if unicodedata.category(character)[0] != "C"
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def counted(number: int, what: str) -> str:
    """Return ``1 guest``, ``2 guests``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def duration(seconds: float | None, *, like: float | None = None) -> str:
    """Seconds as people say them: ``812 µs``, ``3.9 ms``, ``5.012 s``; ``–`` if unknown.

    ``like``: in the unit of that many seconds, so that two figures can be compared at a glance.
    """
    if seconds is None:
        return "–"
    size = abs(seconds if like is None else like)
    if size < 0.001:
        said = f"{seconds * 1e6:.0f} µs"
    elif size < 1:
        said = f"{seconds * 1e3:.{1 if like is None or abs(seconds) >= 1e-4 else 3}f} ms"
    else:
        said = f"{seconds:.3f} s"
    return minus(said)


def minus(text: str) -> str:
    """Return ``text`` with a real minus sign before the number that it begins with."""
    return f"−{text[1:]}" if text.startswith("-") else text
