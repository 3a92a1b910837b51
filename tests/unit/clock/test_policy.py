"""What may be done about a clock: for every reading, whatever was done before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.clock.methods import METHODS
from harness.clock.policy import OVERSHOOT_S, CorrectionPolicy, Remedy, decide
from harness.core.records import ClockReading, Outcome
from harness.core.settings import DEFAULT_METHODS, ClockSection

readings = st.builds(
    ClockReading,
    offset_s=st.floats(-1e9, 1e9) | st.floats(-0.2, 0.2),
    uncertainty_s=st.floats(0, 1),
)
policies = st.builds(
    CorrectionPolicy,
    tolerance_s=st.floats(1e-4, 1),
    allow_backward=st.booleans(),
    ceiling_s=st.floats(1, 1e6),
    slew_below_s=st.floats(0, 0.5),
    target_s=st.just(0.0) | st.floats(-100, 100),
    target_uncertainty_s=st.just(0.0) | st.floats(0, 0.01),
)


@given(readings, policies)
def test_a_clock_is_never_stepped_back_unless_that_is_allowed(reading, policy):
    """Neither as the remedy, nor as the way out where a guest cannot be slewed."""
    decision = decide(reading, policy)
    if policy.error_s(reading) > 0 and not policy.allow_backward:
        assert decision.remedy is not Remedy.STEP
        if decision.remedy is Remedy.SLEW:
            assert not decision.may_step
            assert "not allowed" in decision.reason


@given(readings, policies)
def test_the_target_is_as_uncertain_as_it_was_read(reading, policy):
    """Its uncertainty is added to that of the reading, never dropped."""
    assert policy.uncertainty_s(reading) == reading.uncertainty_s + policy.target_uncertainty_s


@given(readings, policies)
def test_nothing_is_done_within_tolerance_and_only_there(reading, policy):
    """Within, with all of the uncertainty."""
    nothing = decide(reading, policy).remedy is Remedy.NOTHING
    assert nothing == (policy.judge(reading) is Outcome.PASS)


@given(readings, policies)
def test_no_correction_is_based_on_a_reading_that_could_be_all_error(reading, policy):
    """Nor is one beyond the ceiling; both are left with the reason."""
    decision = decide(reading, policy)
    error_s, uncertainty_s = abs(policy.error_s(reading)), policy.uncertainty_s(reading)
    unsure = uncertainty_s > policy.tolerance_s and error_s < 2 * uncertainty_s
    if unsure or error_s > policy.ceiling_s:
        assert decision.remedy in (Remedy.REFUSE, Remedy.LEAVE, Remedy.NOTHING)
    assert (decision.remedy in (Remedy.REFUSE, Remedy.LEAVE)) <= bool(decision.reason)


@given(readings, policies, st.floats(-1, 1))
def test_a_correction_on_an_unsure_reading_makes_no_clock_worse(reading, policy, where):
    """Wherever in its interval the clock really is, it is nearer to right afterwards."""
    decision = decide(reading, policy)
    if policy.cannot_judge(reading) and decision.remedy in (Remedy.STEP, Remedy.SLEW):
        error_s, off_by_s = policy.error_s(reading), where * policy.uncertainty_s(reading)
        assert abs(off_by_s) <= abs(error_s + off_by_s) * (1 + 1e-9)


@given(readings, policies)
def test_only_an_overshoot_of_our_own_is_slewed_further(reading, policy):
    """A clock that was fast when it was found, or is slow, is decided on as ever."""
    ours, found = decide(reading, policy, stepped=True), decide(reading, policy)
    if ours != found:
        assert (ours.remedy, found.remedy) == (Remedy.SLEW, Remedy.REFUSE)
        assert 0 < policy.error_s(reading) <= OVERSHOOT_S
        assert not policy.allow_backward


@given(readings, policies)
def test_only_small_offsets_are_slewed(reading, policy):
    """And larger ones never."""
    decision = decide(reading, policy)
    if decision.remedy is Remedy.SLEW:
        assert abs(policy.error_s(reading)) <= policy.slew_below_s
    if decision.remedy is Remedy.STEP:
        assert abs(policy.error_s(reading)) > policy.slew_below_s


@given(readings, policies, st.floats(-100, 100))
def test_a_target_only_moves_the_question(reading, policy, by_s):
    """Restoring an offset is judged exactly as correcting to the host's clock is."""
    from dataclasses import replace

    moved = reading.model_copy(update={"offset_s": reading.offset_s + by_s})
    aimed = replace(policy, target_s=policy.target_s + by_s)
    if abs(policy.error_s(reading) - aimed.error_s(moved)) == 0:
        assert decide(moved, aimed).remedy is decide(reading, policy).remedy


def test_every_method_has_one_name_everywhere():
    """In the registry, in the default order, and in the configuration."""
    assert set(METHODS) == set(DEFAULT_METHODS)
    assert ClockSection().methods == DEFAULT_METHODS
