"""Durations as people write and read them: ``90s``, ``15m``, ``2h``, ``1d``."""

from __future__ import annotations

import re
from datetime import time

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_HOURS = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
#: Ten years: a point in time that far away still has a year of four digits, and can be slept for.
LONGEST_S = 3650 * 86_400.0
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def parse(text: str) -> float:
    """Seconds; a bare number is seconds. Raises ValueError."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration such as 90s, 15m, 2h or 1d")
    seconds = float(match[1]) * _SECONDS[match[2] or "s"]
    if seconds > LONGEST_S:
        raise ValueError(f"{text!r} is longer than {LONGEST_S / 86_400:.0f}d")
    return seconds


def scaled(seconds: float, time_scale: float) -> float:
    """Return ``seconds`` at ``time_scale`` times the speed; at most ``LONGEST_S``."""
    return min(seconds / time_scale, LONGEST_S)


def spoken(seconds: float) -> str:
    """In the largest unit that fits, rounded: ``5 min``."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "0 s"


def parse_hours(text: str) -> tuple[time, time]:
    """``22:00-04:00`` as two times of day; ``24:00`` is midnight. Raises ValueError."""
    match = _HOURS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no span such as 22:00-04:00")
    from_hour, from_minute, to_hour, to_minute = map(int, match.groups())
    to_hour = 0 if (to_hour, to_minute) == (24, 0) else to_hour
    return time(from_hour, from_minute), time(to_hour, to_minute)
