"""What was probably meant by a word that is not known; loads nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], what: str) -> str:
    """Return a hint: the one of ``known`` that ``word`` was probably meant to be, else them all.

    Args:
        word: What was written.
        known: What could have been.
        what: What they are called, in the plural.
    """
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"{what}: {', '.join(known)}"
