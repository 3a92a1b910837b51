"""Durations as people write and read them: ``90s``, ``15m``, ``2h``, ``1d``."""

from __future__ import annotations

import re

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def parse(text: str) -> float:
    """Seconds; a bare number is seconds. Raises ValueError."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration such as 90s, 15m, 2h or 1d")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def spoken(seconds: float) -> str:
    """In the largest unit that fits, rounded: ``5 min``."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "0 s"
