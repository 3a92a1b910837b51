"""The last line of what a program said: mostly the one that says why it failed."""

from __future__ import annotations


def last_line(said: str, otherwise: str) -> str:
    """Return the last line of ``said``; ``otherwise`` if it has none."""
    return (said.strip().splitlines() or [otherwise])[-1]
