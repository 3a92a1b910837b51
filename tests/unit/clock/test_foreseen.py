"""What is known of a clock after a pause before the guest is asked, and what that is good for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock.foreseen import Foreseen
from harness.clock.policy import CorrectionPolicy
from harness.core.records import ClockReading
from harness.core.timebase import NS_PER_S

POLICY = CorrectionPolicy(tolerance_s=0.010)
BEFORE = ClockReading(offset_s=0.001, uncertainty_s=0.0005, host_ahead_s=100.0)


def reading(offset_s: float, uncertainty_s: float, host_ahead_s: float = 100.0) -> ClockReading:
    return ClockReading(
        offset_s=offset_s, uncertainty_s=uncertainty_s, samples=1, host_ahead_s=host_ahead_s
    )


def test_a_poor_sample_and_the_pause_tell_the_offset_well_together():
    """± 30 ms of a busy guest, and a pause that is known to a millisecond."""
    known = Foreseen(BEFORE, 4.999, 5.000).narrow(reading(-4.980, 0.030))
    assert known.offset_s == pytest.approx(-4.9985, abs=0.001)
    assert known.uncertainty_s < 0.005
    assert Foreseen(BEFORE, 4.999, 5.000).reason_to_act(reading(-4.980, 0.030), POLICY) == known


@pytest.mark.parametrize("offset_s", [0.0, -2.0, -5.2, -4.8, 5.0])
def test_a_clock_that_is_not_as_foreseen_is_not_taken_for_what_was_foreseen(offset_s):
    """It went on in the pause, was set by another, or the guest is another one."""
    foreseen = Foreseen(BEFORE, 4.999, 5.000)
    assert foreseen.narrow(reading(offset_s, 0.030)) is None
    assert foreseen.reason_to_act(reading(offset_s, 0.030), POLICY) is None


def test_a_host_whose_clock_was_set_in_the_pause_moves_what_is_foreseen():
    """The host went ahead by 60 s: the guest is slow by as much more."""
    foreseen = Foreseen(BEFORE, 4.999, 5.000)
    known = foreseen.narrow(reading(-64.990, 0.020, host_ahead_s=160.0))
    assert known.offset_s == pytest.approx(-64.9985, abs=0.001)
    assert foreseen.narrow(reading(-4.990, 0.020, host_ahead_s=160.0)) is None


@pytest.mark.parametrize(
    ("shortest_s", "longest_s", "uncertainty_s"),
    [(4.9, 5.1, 0.030), (0.001, 0.002, 0.030), (0.008, 0.012, 0.001)],
    ids=["the pause is not known well", "as short as the tolerance", "too small to be sure"],
)
def test_what_is_not_surely_wrong_and_well_known_is_read_again(
    shortest_s, longest_s, uncertainty_s
):
    """More samples tell more, and nothing is lost by them."""
    foreseen = Foreseen(ClockReading(offset_s=0.0, uncertainty_s=0.001), shortest_s, longest_s)
    middle_s = (shortest_s + longest_s) / 2
    assert foreseen.reason_to_act(reading(-middle_s, uncertainty_s), POLICY) is None


def test_what_may_not_be_done_is_no_reason_to_act():
    """A clock that was fast before is fast still; a person decides, by a good reading."""
    fast = ClockReading(offset_s=60.0, uncertainty_s=0.0005)
    foreseen = Foreseen(fast, 4.999, 5.000)
    assert foreseen.reason_to_act(reading(55.0, 0.020), POLICY) is None
    backward = CorrectionPolicy(tolerance_s=0.010, allow_backward=True)
    assert foreseen.reason_to_act(reading(55.0, 0.020), backward) is not None


@given(
    before_s=st.floats(-5, 5),
    error=st.floats(-1, 1),
    pause_s=st.floats(0.01, 100),
    way=st.floats(-1, 1),
    unsure_s=st.floats(0.0001, 0.5),
)
def test_if_both_are_true_the_truth_is_within_what_is_known(
    before_s, error, pause_s, way, unsure_s
):
    """Wherever in their intervals they are."""
    before = ClockReading(offset_s=before_s + 0.001 * error, uncertainty_s=0.001)
    true_s = before_s - pause_s
    known = Foreseen(before, pause_s - 0.002, pause_s + 0.001).narrow(
        reading(true_s + way * unsure_s, unsure_s)
    )
    assert known is not None
    assert abs(known.offset_s - true_s) <= known.uncertainty_s + 1e-9
    assert known.uncertainty_s <= unsure_s + 1e-9


@given(
    before_s=st.floats(-100, 100),
    error=st.floats(-1, 1),
    target_s=st.sampled_from([0.0, 5.0]),
    pause_s=st.floats(0, 100),
    way_s=st.floats(0, 200),
    inner=st.floats(0, 0.02),
)
def test_no_clock_that_went_on_or_was_set_right_is_within_a_foreseen_step(
    before_s, error, target_s, pause_s, way_s, inner
):
    """However long the question was on its way: the guest takes that for its clock being ahead."""
    policy = CorrectionPolicy(tolerance_s=0.010, target_s=target_s, allow_backward=True)
    before = ClockReading(offset_s=before_s + 0.001 * error, uncertainty_s=0.001)
    step = Foreseen(before, pause_s, pause_s + inner).step(policy, 0.0)
    if step is None:
        return
    went_on_ns = round((before_s + way_s) * NS_PER_S)
    assert not step.lowest_ns <= went_on_ns <= step.highest_ns
    if before_s <= target_s:  # a clock that lost time is set forwards
        right_ns = round((target_s + way_s) * NS_PER_S)
        assert not step.lowest_ns <= right_ns <= step.highest_ns


@given(
    before_s=st.floats(-5, 5),
    error=st.floats(-1, 1),
    pause_s=st.floats(0.06, 100),
    within=st.floats(0, 1),
)
def test_a_clock_that_stood_still_is_right_after_a_foreseen_step(before_s, error, pause_s, within):
    """By the tolerance, and the guest finds it as foreseen where the way is quick."""
    policy = CorrectionPolicy(tolerance_s=0.010, allow_backward=True)
    before = ClockReading(offset_s=before_s + 0.001 * error, uncertainty_s=0.001)
    step = Foreseen(before, pause_s, pause_s + 0.002).step(policy, 0.0)
    if step is None:
        return
    true_s = before_s - pause_s - 0.002 * within
    assert step.lowest_ns <= round((true_s + 0.001) * NS_PER_S) <= step.highest_ns
    assert abs(true_s + step.by_ns / NS_PER_S) <= policy.tolerance_s
