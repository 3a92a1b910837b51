"""The step that goes with the first question after a pause, before anything was measured.

The guest makes it only if its own clock agrees with what was foreseen, and tells its clock before
and after. Every verdict on the clock is read since then: see :mod:`harness.clock.correction`.
docs/adr/0046-step-at-once.md has why.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.clock.agents import Ability
from harness.clock.arithmetic import Sample, best
from harness.clock.foreseen import Foreseen
from harness.clock.methods import METHODS
from harness.clock.methods.protocol import Method
from harness.clock.policy import CorrectionPolicy, Remedy
from harness.clock.target import Reach
from harness.core.errors import ProbeError
from harness.core.records import ClockReading
from harness.core.timebase import NS_PER_S, Deadline, realtime_ahead


@dataclass(frozen=True)
class Stepped:
    """A guest whose clock was as foreseen, and has been stepped."""

    method: Method
    before: ClockReading
    """Of its clock as it was when the question came."""
    after: Sample
    """Of its clock since."""


def step_at_once(
    reach: Reach, policy: CorrectionPolicy, foreseen: Foreseen | None, deadline: Deadline
) -> Stepped | Sample | None:
    """Step the guest's clock if it is as foreseen.

    Return the first sample of a reading of it if it is not; None: the guest was not asked, or what
    it answered says nothing. Raises ShellUnreachable, DeadlineExpired.
    """
    method = _method(reach, policy)
    if method is None or foreseen is None:
        return None
    step = foreseen.step(policy, realtime_ahead(deadline.clock).ns / NS_PER_S)
    if step is None:
        return None
    try:
        before, after = reach.sampler.step_foreseen(step, deadline)
    except ProbeError:
        return None  # whatever became of it: the clock is read from the beginning
    return before if after is None else Stepped(method, best([before]), after)


def _method(reach: Reach, policy: CorrectionPolicy) -> Method | None:
    """The first method that would step this guest's clock, if it does that by the clock agent."""
    if Ability.FORESEEN not in reach.sampler.abilities:
        return None
    for method in (METHODS[name] for name in policy.methods):
        if method.remedy is Remedy.STEP and method.obstacle(reach) is None:
            return method if method.is_step(reach) else None
    return None
