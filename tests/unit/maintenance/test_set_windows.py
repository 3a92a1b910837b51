"""When an availability set may be paused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.core.settings import AvailabilitySetSection
from harness.maintenance.set_windows import is_open, next_opening

FRIDAY = datetime(2026, 12, 4, tzinfo=UTC)


def at(day, hour, minute=0):
    """That day of the week of FRIDAY."""
    return FRIDAY + timedelta(days=day, hours=hour, minutes=minute)


NIGHT = AvailabilitySetSection(name="web", days=("fri",), hours="22:00-04:00")


@pytest.mark.parametrize(
    ("when", "allowed"),
    [
        (at(0, 21, 59), False),
        (at(0, 22), True),
        (at(1, 3, 59), True),
        (at(1, 4), False),
        (at(0, 3), False),
        (at(1, 22), False),
    ],
)
def test_a_window_belongs_to_the_day_on_which_it_begins(when, allowed):
    """Friday's goes on into Saturday; Thursday has none to go on into Friday."""
    assert is_open(NIGHT, when) is allowed


def test_without_limits_it_is_always_open():
    """The default, at midnight too."""
    section = AvailabilitySetSection(name="web")
    assert all(is_open(section, at(0, hour)) for hour in range(48))


def test_hours_are_those_of_the_zone():
    """22:00 in Berlin is 21:00 UTC in winter and 20:00 in summer."""
    section = AvailabilitySetSection(name="w", hours="22:00-23:00", time_zone="Europe/Berlin")
    assert is_open(section, datetime(2026, 1, 1, 21, 30, tzinfo=UTC))
    assert is_open(section, datetime(2026, 7, 1, 20, 30, tzinfo=UTC))
    assert not is_open(section, datetime(2026, 7, 1, 21, 30, tzinfo=UTC))


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1)),
    st.sampled_from(["02:00-05:00", "22:00-04:00", "23:00-24:00"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    st.sets(st.sampled_from(["mon", "wed", "sun"])),
)
def test_the_next_opening_is_open_and_not_past(when, hours, zone, days):
    """In any zone, also where clocks are changed."""
    when = when.replace(tzinfo=UTC)
    section = AvailabilitySetSection(name="w", hours=hours, time_zone=zone, days=tuple(days))
    opens = next_opening(section, when)
    assert opens >= when
    assert is_open(section, opens)


@pytest.mark.parametrize(
    "wrong",
    [{"hours": "22-04"}, {"hours": "25:00-26:00"}, {"time_zone": "Mars/Olympus"}, {"days": ("x",)}],
)
def test_what_is_no_window_is_refused(wrong):
    """At the configuration, not on the night."""
    with pytest.raises(ValidationError):
        AvailabilitySetSection(name="web", **wrong)
