"""A whole maintenance, from the plan to the record."""

from __future__ import annotations

from harness.core.records import Outcome
from tests.maintenance.conftest import events, of, verdicts


def test_a_maintenance_of_two_domains_passes_and_says_what_it_measured(house):
    """Each guest was paused, lagged by that, was stepped, and is right within its tolerance."""
    at = house()
    finished = at.maintain()
    record = finished.record
    assert (finished.error, record.outcome, record.exit_code) == (None, Outcome.PASS, 0)
    assert [domain.name for domain in record.update_domains] == ["web1", "web2"]
    for name in ("web1", "web2"):
        guest = of(record, name)
        assert set(verdicts(guest).values()) == {"pass"}
        assert guest.clock.method == "relative-step"
        assert guest.clock.after_resume.offset_s < -0.04
        assert abs(guest.clock.after_correction.offset_s) < 0.01
        assert 0.05 <= guest.pause_inner_s <= guest.pause_window_s < 3.0
        assert guest.stale_clock_window_s > 0
    assert at.running == ["web1", "web2"]
    assert events(finished)[-1] == "run finished"
    assert finished.folder.record() == record
