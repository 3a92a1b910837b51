"""What happens to time itself during a maintenance."""

from __future__ import annotations

import pytest

from harness.core.records import Outcome
from harness.core.timebase import NS_PER_S, SystemClock
from harness.testing.updates import Meddling


class Sleeper(SystemClock):
    """A host's clocks; ``suspend`` sends the host to sleep and wakes it."""

    def __init__(self) -> None:
        self.slept_ns = 0

    def suspend(self, seconds: float) -> None:
        """What a lid that is closed does: CLOCK_MONOTONIC stands still, the others do not."""
        self.slept_ns += round(seconds * NS_PER_S)

    def boottime_ns(self) -> int:
        return super().boottime_ns() + self.slept_ns

    def realtime_ns(self) -> int:
        return super().realtime_ns() + self.slept_ns


def test_a_host_that_was_suspended_in_the_window_has_no_verdict(house):
    """It was taken for a step of the host's clock, and everything passed."""
    clock = Sleeper()
    at = house()
    update = Meddling(lambda: clock.suspend(40))
    finished = at.maintain(update=update, clock=clock)
    assert (finished.record.outcome, finished.record.exit_code) == (Outcome.ERROR, 3)
    first = finished.record.update_domains[0]
    assert first.host_suspended_s == pytest.approx(40, abs=0.01)
    assert "the host was suspended for " in " ".join(first.problems)
    assert at.running == ["web1", "web2"]


def test_a_step_of_the_hosts_clock_is_no_suspension(house):
    """That is measured, and judged."""
    record = house().maintain().record
    assert [domain.host_suspended_s for domain in record.update_domains] == [0, 0]
