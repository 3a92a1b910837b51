"""The host's time by the CPU's counter: what it would be, had no kernel come in between."""

from __future__ import annotations

import platform

import pytest
from hypothesis import given
from hypothesis import strategies as some

from harness.core import tsc
from harness.core.tsc import Pair

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86_64 has a TSC")
THEN = Pair(counts=1_000, clock_ns=5_000, width=10)


@x86
def test_the_counter_and_the_clock_go_on_together():
    """The pace between two pairs tells the time at a third."""
    first, then = tsc.steady(), tsc.realtime()
    last = tsc.steady()
    while last.clock_ns - first.clock_ns < 20_000_000:
        last = tsc.steady()
    pace = tsc.counts_per_ns(first, last)
    now = tsc.realtime()
    assert pace > 0
    assert tsc.has_gone_on(then, now)
    assert not tsc.has_gone_on(now, then)
    told_ns = tsc.realtime_at(now.counts, then, pace)
    # Whoever sets this machine's clock meanwhile moves it by more than that.
    assert abs(told_ns - now.clock_ns) < 100_000_000


@given(
    counts=some.integers(1_000, 1 << 50),
    pace=some.floats(0.1, 10, allow_nan=False),
)
def test_the_time_goes_on_from_the_pair_at_the_counters_pace(counts, pace):
    """Nothing has passed at the pair itself; later is later."""
    assert tsc.realtime_at(THEN.counts, THEN, pace) == THEN.clock_ns
    passed_ns = tsc.realtime_at(counts, THEN, pace) - THEN.clock_ns
    assert passed_ns == pytest.approx((counts - THEN.counts) / pace, abs=1, rel=1e-9)


def test_the_longer_the_pause_the_less_is_known():
    """What both readings leave open, and the drift of a crystal."""
    soon, late = Pair(2_000, 0, 30), Pair(3_000_000_000, 0, 30)
    assert tsc.uncertainty_ns(THEN, soon, 1.0) == 40
    assert tsc.uncertainty_ns(THEN, late, 1.0) == 40 + 150_000


def test_a_clock_that_stood_still_has_no_pace():
    """Nothing is divided by nothing."""
    assert tsc.counts_per_ns(THEN, Pair(9_000, THEN.clock_ns, 1)) == 0.0
