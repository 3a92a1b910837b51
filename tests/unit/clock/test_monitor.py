"""Watching a clock: what a series of readings says, and what it must not say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock.agent_answers import ProbeCounts
from harness.clock.agents import agent
from harness.clock.monitor import watch
from harness.clock.policy import CorrectionPolicy
from harness.clock.sampling import Sampler
from harness.clock.stability import Point, drift_ppm, judge_watch, jumps, monotonic_jumps
from harness.core.errors import ShellUnreachable
from harness.core.records import ClockReading, Outcome
from harness.core.timebase import Deadline
from harness.testing.agent import FakeAgent
from harness.testing.clock import FakeClock

POLICY = CorrectionPolicy(tolerance_s=0.010)
QUIET = ProbeCounts(100, 0, 0, 0, 0, 0, 50_000_000)


def series(offsets, uncertainty_s=0.001, every_s=1.0, monotonic=None, host=None):
    return [
        Point(
            round(n * every_s * 1e9),
            ClockReading(
                offset_s=offset,
                uncertainty_s=uncertainty_s,
                monotonic_s=monotonic[n] if monotonic else None,
                monotonic_uncertainty_s=0.001 if monotonic else None,
                host_ahead_s=host[n] if host else None,
            ),
        )
        for n, offset in enumerate(offsets)
    ]


@given(
    st.floats(-400, 400),
    st.floats(-0.005, 0.005),
    st.lists(st.floats(-1, 1), min_size=3, max_size=40),
    st.floats(1e-5, 2e-3),
)
def test_the_true_drift_is_within_the_stated_uncertainty(ppm, start_s, errors, uncertainty_s):
    """Whatever each reading is wrong by, as long as its own uncertainty holds."""
    points = series(
        [start_s + n * ppm / 1e6 + e * uncertainty_s for n, e in enumerate(errors)], uncertainty_s
    )
    rate, sure = drift_ppm(points)
    assert abs(rate - ppm) <= sure * (1 + 1e-6) + 1e-3
    assert jumps(points) == ()


def test_too_few_points_have_no_drift():
    """One reading is no rate."""
    assert drift_ppm(series([0.0])) is None
    assert drift_ppm([]) is None


@given(st.integers(1, 8), st.floats(0.01, 10) | st.floats(-10, -0.01))
def test_a_jump_is_found_where_it_was(at, by_s):
    """And its size, to the uncertainty."""
    found = jumps(series([0.0] * at + [by_s] * 3))
    assert [jump.at_s for jump in found] == [pytest.approx(at)]
    assert found[0].by_s == pytest.approx(by_s)


def test_a_step_of_the_hosts_own_clock_is_no_jump_of_the_guest():
    """The offset changes, the guest did nothing."""
    assert jumps(series([0.0, -2.0, -2.0], host=[100.0, 102.0, 102.0])) == ()
    assert len(jumps(series([0.0, -2.0, -2.0], host=[100.0, 100.0, 100.0]))) == 1


def test_a_guest_that_stood_still_during_the_watch_is_noticed():
    """CLOCK_MONOTONIC cannot be set: it fell behind because nobody ran."""
    found = monotonic_jumps(series([0.0] * 3, monotonic=[-5.0, -5.0, -7.0]))
    assert [jump.by_s for jump in found] == [pytest.approx(-2.0)]


@pytest.mark.parametrize(
    ("points", "probe", "trouble", "outcome", "words"),
    [
        (series([0.0] * 9), QUIET, "", Outcome.PASS, ""),
        (series([0.0] * 9), None, "", Outcome.PASS, ""),
        (series([0.0] * 5 + [-5.0] * 4), QUIET, "", Outcome.FAIL, "the clock was moved"),
        (series([0.003] * 5 + [-0.003] * 4), QUIET, "", Outcome.FAIL, "jumped back by 0.006"),
        (series([n * 0.0004 for n in range(40)]), QUIET, "", Outcome.FAIL, "ran out of tolerance"),
        (series([0.0] * 3, monotonic=[0.0, 0.0, 9.0]), QUIET, "", Outcome.FAIL, "CLOCK_MONOTONIC"),
        (series([0.0] * 9), ProbeCounts(9, 2, 7000, 0, 0, 0, 0), "", Outcome.FAIL, "went back 2"),
        (
            series([0.0] * 9),
            ProbeCounts(9, 0, 0, 0, 0, 1, 0),
            "",
            Outcome.FAIL,
            "MONOTONIC went back",
        ),
        (series([0.0] * 9), QUIET, "gone", Outcome.ERROR, "gone"),
        ([], None, "", Outcome.ERROR, ""),
        (series([0.0] * 3, uncertainty_s=0.3), QUIET, "", Outcome.ERROR, ""),
    ],
)
def test_a_watch_is_judged(points, probe, trouble, outcome, words):
    """FAIL only for a promise that was broken; ERROR where we could not tell."""
    record = judge_watch(points, POLICY, 60.0, probe, trouble)
    assert record.outcome is outcome
    assert words in record.detail
    assert record.undone == ("moved" in words)


def sampler_for(fake: FakeAgent) -> Sampler:
    sampler = Sampler("web1", fake, agent("python3"), fake.clock)
    sampler._greet(Deadline.after(60, fake.clock))
    return sampler


def test_a_watch_lasts_as_long_as_it_was_asked_to_and_reads_all_through_it():
    """With a probe in the guest."""
    clock = FakeClock()
    fake = FakeAgent(clock)
    record = watch(sampler_for(fake), POLICY, 60.0, Deadline.after(300, clock))
    assert record.outcome is Outcome.PASS
    assert 30 <= record.readings <= 61
    assert record.witness.looks == 3
    assert 1059 < clock.monotonic_ns() / 1e9 < 1063


def test_a_daemon_that_undoes_the_step_is_seen():
    """30 s into the watch."""
    clock = FakeClock()
    fake = FakeAgent(clock)

    def undone(line):
        if clock.monotonic_ns() > 1030e9:
            fake.offset_s = -5.0
        return fake._answer(line)

    fake.answer = undone
    record = watch(sampler_for(fake), POLICY, 60.0, Deadline.after(300, clock))
    assert (record.outcome, record.undone) == (Outcome.FAIL, True)
    assert record.jumps[0].by_s == pytest.approx(-5.0, abs=0.01)


def test_a_guest_that_falls_silent_is_no_pass():
    """We could not tell, and say why."""
    clock = FakeClock()
    fake = FakeAgent(clock)

    def gone(line):
        if clock.monotonic_ns() > 1010e9:
            raise ShellUnreachable("the connection was closed", guest="web1")
        return fake._answer(line)

    fake.answer = gone
    record = watch(sampler_for(fake), POLICY, 60.0, Deadline.after(300, clock))
    assert record.outcome is Outcome.ERROR
    assert "connection was closed" in record.detail
