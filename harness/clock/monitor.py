"""Looking at a clock for a while after it was corrected: does it stay right?"""

from __future__ import annotations

from harness.clock.agent_answers import ProbeCounts
from harness.clock.policy import CorrectionPolicy
from harness.clock.sampling import Sampler
from harness.clock.stability import Point, judge_watch
from harness.core.errors import HarnessError, ProbeError
from harness.core.records import WatchRecord
from harness.core.timebase import Deadline

#: So many readings in a watch, but not closer than this.
_READINGS = 60
_INTERVAL_S = 0.5


def watch(
    sampler: Sampler,
    policy: CorrectionPolicy,
    duration_s: float,
    deadline: Deadline,
) -> WatchRecord:
    """Read again and again for ``duration_s``, with a probe in the guest where it has one.

    The probe may have been started before (to have the pause in its sight); else it is here.
    Never raises a HarnessError: what went wrong is part of the record.
    """
    points: list[Point] = []
    trouble = ""
    clock = deadline.clock
    end = Deadline.after(duration_s, clock)
    interval_s = max(_INTERVAL_S, duration_s / _READINGS)
    try:
        sampler.ensure_probe(deadline)
    except HarnessError as error:
        trouble = f"no probe: {error.message}"
    while True:
        try:
            reading = sampler.read_well(policy.samples, policy.tolerance_s / 2, deadline)
            points.append(Point(clock.monotonic_ns(), reading))
        except ProbeError as error:
            trouble = error.message  # a clock that is moved just then; the next reading tells more
        except HarnessError as error:
            trouble = error.message
            break
        if end.expired:
            break
        clock.sleep(min(interval_s, end.remaining_s()))
    return judge_watch(points, policy, duration_s, _end_probe(sampler, deadline), trouble)


def _end_probe(sampler: Sampler, deadline: Deadline) -> ProbeCounts | None:
    try:
        return sampler.end_probe(deadline)
    except HarnessError:
        return None
