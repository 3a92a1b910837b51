"""When an availability set may be maintained: days, hours, time zone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from harness.core.durations import parse_hours
from harness.core.errors import WindowClosed
from harness.core.settings import AvailabilitySetSection, set_section

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LOOK_AHEAD_DAYS = 8


def is_open(section: AvailabilitySetSection, at: datetime) -> bool:
    """Whether the set may be paused at ``at`` (with a time zone).

    A window belongs to the day on which it begins: ``fri 22:00-04:00`` is open on Saturday at 3.
    """
    local = at.astimezone(ZoneInfo(section.time_zone))
    return any(start <= local < end for start, end in _spans(section, local))


def next_opening(section: AvailabilitySetSection, at: datetime) -> datetime:
    """``at`` if the set's window is open then, else when it opens next, in the set's zone."""
    if is_open(section, at):
        return at
    local = at.astimezone(ZoneInfo(section.time_zone))
    return min(start for start, _ in _spans(section, local) if start > local)


def closed_sets(
    sections: Sequence[AvailabilitySetSection], sets: Iterable[str], at: datetime
) -> Iterable[str]:
    """Yield, of each set that may not be paused at ``at``, in words that and when it may be."""
    for name in sets:
        section = set_section(sections, name)
        if not is_open(section, at):
            opens = next_opening(section, at)
            yield (
                f"availability set {name} may not be paused at {at:%Y-%m-%d %H:%M:%S} UTC; "
                f"its maintenance window opens {opens:%A %Y-%m-%d %H:%M %Z}"
            )


def refuse_closed(
    sections: Sequence[AvailabilitySetSection], sets: Iterable[str], at: datetime
) -> None:
    """Raise WindowClosed if one of ``sets`` may not be paused at ``at``, which is in UTC."""
    for said in closed_sets(sections, sets, at):
        raise WindowClosed(said, hint="run it then, or: harness events schedule --at that time")


def _spans(section: AvailabilitySetSection, local: datetime) -> Iterable[tuple[datetime, datetime]]:
    """The windows of the days around ``local``."""
    start, end = parse_hours(section.hours)
    days: Sequence[str] = section.days or _DAYS
    for ahead in range(-1, _LOOK_AHEAD_DAYS):
        day = local.date() + timedelta(days=ahead)
        if _DAYS[day.weekday()] not in days:
            continue
        last = day if end > start else day + timedelta(days=1)
        opens = datetime.combine(day, start, local.tzinfo)
        yield opens, datetime.combine(last, end, local.tzinfo)
