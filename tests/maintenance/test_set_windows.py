"""Windows of availability sets hold for every maintenance, with a notice to guests or without."""

from __future__ import annotations

from datetime import timedelta

from harness import api
from harness.core.errors import NOT_NOW, WindowClosed, rollout_exit_code
from harness.core.settings import AvailabilitySetSection
from harness.core.timebase import utc_now
from harness.maintenance.notice import Unannounced
from harness.testing.clock import FakeClock
from tests.maintenance.conftest import events
from tests.maintenance.test_api import backend

SETS = [{"name": "web1", "availability_set": "web"}, {"name": "web2", "availability_set": "web"}]


def closed() -> str:
    """Hours that are half a day away."""
    opens = utc_now() + timedelta(hours=12)
    return f"{opens:%H}:00-{opens:%H}:30"


def test_outside_its_window_no_guest_of_a_set_is_paused_and_a_plan_says_so(house):
    """Without a notice; with one see tests/unit/events."""
    ours = house(guest=SETS, availability_set=[{"name": "web", "hours": closed()}])
    config = ours.config()

    planned = api.plan(config, state_dir=ours.state_dir, backend=backend(ours))
    finished = api.maintain(config, state_dir=ours.state_dir, backend=backend(ours))

    assert any("availability set web may not be paused at" in one for one in planned.plan.warnings)
    assert isinstance(finished.error, WindowClosed)
    assert rollout_exit_code(finished.error) == NOT_NOW
    assert "its maintenance window opens" in finished.error.message
    assert "pausing" not in events(finished)


def test_a_window_that_closes_between_two_update_domains_begins_no_other(house):
    """What was begun within it is brought to its end."""
    ours, clock = house(guest=SETS), FakeClock()  # it is 08:00 UTC
    ours.host.before["pause", "web1"] = lambda: clock.advance(3600)
    night = AvailabilitySetSection(name="web", hours="04:00-08:30")

    finished = ours.maintain(notice=Unannounced([night], clock))

    assert isinstance(finished.error, WindowClosed)
    paused = [one.name for one in finished.record.guests if one.pause_window_s is not None]
    assert paused == ["web1"]
    assert events(finished).count("pausing") == 1
    assert ours.running == ["web1", "web2"]


def test_a_window_that_closes_while_baselines_are_taken_pauses_no_guest(house):
    ours, clock = house(guest=SETS), FakeClock()
    night = AvailabilitySetSection(name="web", hours="04:00-08:30")

    class Late(Unannounced):
        def announce(self, domain):
            said = super().announce(domain)
            clock.advance(3600)
            return said

    finished = ours.maintain(notice=Late([night], clock))

    assert isinstance(finished.error, WindowClosed)
    assert "pausing" not in events(finished)
