"""Where one remedy ends and the next begins, to the letter."""

from __future__ import annotations

import pytest

from harness.clock.policy import CorrectionPolicy, Decision, Remedy, decide
from harness.core.records import Outcome
from harness.testing.evidence import clock

POLICY = CorrectionPolicy(tolerance_s=0.01, ceiling_s=100.0, slew_below_s=0.05)
BACK = CorrectionPolicy(tolerance_s=0.01, ceiling_s=100.0, slew_below_s=0.05, allow_backward=True)
SAID = "setting it back is not allowed (hint: --allow-backward)"


@pytest.mark.parametrize(
    ("policy", "offset_s", "uncertainty_s", "wanted"),
    [
        (POLICY, 0.009, 0.001, Decision(Remedy.NOTHING)),
        (POLICY, -0.05, 0.0, Decision(Remedy.SLEW)),
        (POLICY, -0.05001, 0.0, Decision(Remedy.STEP)),
        (POLICY, 0.05, 0.0, Decision(Remedy.SLEW, SAID, may_step=False)),
        (POLICY, 2.0, 0.0, Decision(Remedy.REFUSE, SAID, may_step=False)),
        (BACK, 2.0, 0.0, Decision(Remedy.STEP)),
        (POLICY, -5.0, 0.01, Decision(Remedy.STEP)),
        (POLICY, -100.0, 0.0, Decision(Remedy.STEP)),
        (
            POLICY,
            -100.5,
            0.0,
            Decision(
                Remedy.REFUSE,
                "100.500 s slow is beyond the ceiling of 100 s; a person should look first",
            ),
        ),
    ],
)
def test_what_a_reading_asks_for(policy, offset_s, uncertainty_s, wanted):
    """Each limit belongs to the gentler side."""
    assert decide(clock(offset_s, uncertainty_s), policy) == wanted


UNSURE = "only known to ± 17.00 ms, the tolerance is 10 ms"


@pytest.mark.parametrize(
    ("offset_s", "wanted"),
    [
        (-4.005, Decision(Remedy.STEP)),
        (-0.034, Decision(Remedy.SLEW)),
        (-0.0339, Decision(Remedy.LEAVE, UNSURE)),
        (0.0, Decision(Remedy.LEAVE, UNSURE)),
        (0.0339, Decision(Remedy.LEAVE, UNSURE)),
        (2.0, Decision(Remedy.REFUSE, SAID, may_step=False)),
    ],
)
def test_what_is_done_on_a_reading_that_is_too_unsure_to_judge_by(offset_s, wanted):
    """From twice the uncertainty on; the direction is as forbidden as ever."""
    assert decide(clock(offset_s, 0.017), POLICY) == wanted


@pytest.mark.parametrize(
    ("offset_s", "policy", "remedy"),
    [
        (0.0628, POLICY, Remedy.SLEW),
        (0.25, POLICY, Remedy.SLEW),
        (0.2501, POLICY, Remedy.REFUSE),
        (0.0628, BACK, Remedy.STEP),
        (-0.0628, POLICY, Remedy.STEP),
    ],
)
def test_what_our_own_step_did_too_much_is_slewed_back(offset_s, policy, remedy):
    """Where it may not be stepped back."""
    assert decide(clock(offset_s, 0.001), policy, stepped=True).remedy is remedy


@pytest.mark.parametrize(("uncertainty_s", "said"), [(0.01, None), (0.017, UNSURE)])
def test_what_will_become_of_a_clock_is_known_beforehand(uncertainty_s, said):
    """With a tolerance that would do."""
    foreseen = POLICY.foresee(clock(3.0, uncertainty_s))
    assert POLICY.cannot_judge(clock(3.0, uncertainty_s)) == said
    assert (foreseen is None) == (said is None)
    if foreseen:
        assert said in foreseen
        assert "a tolerance of 0.034 s" in foreseen


def test_the_targets_uncertainty_counts():
    """A clock that is to be where it was cannot be known better than where it was."""
    policy = CorrectionPolicy(tolerance_s=0.01, target_s=2.0, target_uncertainty_s=0.008)
    assert policy.uncertainty_s(clock(2.0, 0.001)) == pytest.approx(0.009)
    assert policy.judge(clock(2.0, 0.001)) is Outcome.PASS
    assert policy.judge(clock(2.0, 0.003)) is Outcome.ERROR
