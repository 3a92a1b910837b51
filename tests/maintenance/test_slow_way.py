"""A host far from its guests: clocks are set as right as can be told, and judged honestly."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from harness import api
from harness.cli.doctor import examine
from harness.cli.finding import Level
from harness.core.records import Outcome

TOLERANCE = {"clock__tolerance_s": 0.010}


@pytest.fixture
def far(house):
    """Two guests; the second is far away."""
    at = house()
    at.guests[1].way_s = 0.020
    return at


def test_a_guest_that_is_far_away_is_not_left_slow(far):
    """Its clock was stopped by the pause; it is corrected, and not called uncorrected."""
    far.guests[1].offset_s = -4.0
    record = far.maintain(**TOLERANCE).record
    assert abs(far.guests[1].offset_s) <= 0.025
    guest = next(guest for guest in record.guests if guest.name == "web2")
    (clock,) = [check for check in guest.checks if check.name == "clock"]
    assert (clock.outcome, guest.clock.method) == (Outcome.ERROR, "relative-step")
    assert "only known to ± 2" in clock.detail
    assert "the tolerance is 10 ms" in clock.detail
    assert "not corrected" not in clock.detail
    assert guest.stale_clock_window_s is None, "nobody could verify it"


def test_a_run_says_before_the_pause_what_it_will_not_be_able_to_judge(far):
    """On its record as well, and of the guest that is far away only."""
    finished = far.maintain(**TOLERANCE)
    (warned,) = [line for line in finished.record.warnings if "only known to" in line]
    assert warned.startswith("web2: its clock is only known to ± 2")
    assert "judged ERROR" in warned
    told = [step.text for step in far.steps]
    at = next(i for i, text in enumerate(told) if "only known to" in text)
    assert any(text.startswith("paused") for text in told[at:])


def test_with_a_tolerance_that_fits_nothing_is_said(far):
    """And the run passes."""
    finished = far.maintain(clock__tolerance_s=0.050)
    assert finished.record.outcome is Outcome.PASS
    assert not [line for line in finished.record.warnings if "only known to" in line]


def test_a_plan_says_it_by_what_the_last_run_saw(far):
    """It logs in nowhere; the newest reading of each guest counts, against the tolerance of now."""
    backend = api.Backend(connect=lambda config: nullcontext(far.host), connector=far.connector)

    def warnings(**changes):
        plan = api.plan(
            far.config(**changes), ["web1", "web2"], state_dir=far.state_dir, backend=backend
        ).plan
        return [line for line in plan.warnings if "only known to" in line]

    assert warnings(**TOLERANCE) == []
    run_id = far.maintain(**TOLERANCE).record.run_id
    (warned,) = warnings(**TOLERANCE)
    assert warned.startswith(f"web2: as of its last run ({run_id}), its clock is only known to ± 2")
    assert warnings(clock__tolerance_s=0.050) == []
    far.guests[1].way_s = 0.0
    far.maintain(**TOLERANCE)
    assert warnings(**TOLERANCE) == []


def test_doctor_says_it_at_any_time(far, tmp_path):
    """A warning with both figures and what can be done."""
    config = far.config(**TOLERANCE, guest=[{"name": "web1"}, {"name": "web2"}])
    backend = api.Backend(connect=lambda config: nullcontext(far.host), connector=far.connector)
    found = {finding.name: finding for finding in examine(config, tmp_path, backend)}
    assert found["guest web1"].level is Level.OK
    assert found["guest web2"].level is Level.WARNING
    assert "only known to ± 2" in found["guest web2"].detail
    assert "tolerance" in found["guest web2"].fix
