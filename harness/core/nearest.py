"""What was probably meant by a word that is not known; loads nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a hint that names the one of ``known`` that ``word`` is like; None if none is."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def nearest(word: str, known: Iterable[str], what: str) -> str:
    """Return a hint: the one of ``known`` that ``word`` was probably meant to be, else them all.

    Args:
        word: What was written.
        known: What could have been.
        what: What they are called, in the plural.
    """
    known = list(known)
    return did_you_mean(word, known) or f"{what}: {', '.join(known)}"
