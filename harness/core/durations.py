"""Durations as people write and read them: ``5ms``, ``90s``, ``15m``, ``2h``, ``1d``."""

from __future__ import annotations

import re
from datetime import time

#: The units that a duration may have, in seconds.
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
#: For other programs: what a duration with a unit looks like.
PATTERN = rf"[0-9]+(\.[0-9]+)?\s*({'|'.join(UNITS)})"
_PATTERN = re.compile(rf"([0-9]*\.?[0-9]+(?:e-[0-9]+)?)\s*({'|'.join(UNITS)})?")
_HOURS = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
#: Ten years: a point in time that far away still has a year of four digits, and can be slept for.
LONGEST_S = 3650 * 86_400.0
_SPOKEN = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def parse(text: str, *, bare: bool = False) -> float:
    """Return the seconds that ``text`` says.

    Args:
        text: A number and a unit, such as ``5ms`` or ``15m``.
        bare: Whether a number without a unit is taken for seconds: where the name says the unit,
            and for what is measured against a pause of seconds. Anywhere else a person who writes
            ``15`` may mean minutes. Nothing is nothing in every unit: ``0`` is always taken.

    Raises:
        ValueError: ``text`` is no duration, has no unit or is longer than ``LONGEST_S``.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"invalid duration {text!r}: expected e.g. 5ms, 90s, 15m, 2h")
    number, unit = float(match[1]), match[2]
    if unit is None and number and not bare:
        raise ValueError(f"duration {text!r} has no unit: write {text}s, or {text}m for minutes")
    seconds = number * UNITS[unit or "s"]
    if seconds > LONGEST_S:
        raise ValueError(f"{text!r} is longer than {LONGEST_S / 86_400:.0f}d")
    return seconds


def scaled(seconds: float, time_scale: float) -> float:
    """Return ``seconds`` at ``time_scale`` times the speed; at most ``LONGEST_S``."""
    return min(seconds / time_scale, LONGEST_S)


def spoken(seconds: float) -> str:
    """In the largest unit that fits, rounded: ``5 min``."""
    for size, unit in _SPOKEN:
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
