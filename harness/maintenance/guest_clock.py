"""After the resume, per guest and as fast as possible: measure the clock, correct it, verify.

What is not urgent comes after that: a second opinion by the guest agent, the RTC, the watch.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any

from harness.clock.at_once import Stepped, step_at_once
from harness.clock.correction import Correction, correct
from harness.clock.foreseen import Foreseen
from harness.clock.monitor import watch
from harness.clock.policy import CorrectionPolicy
from harness.clock.told import GUEST_AGENT
from harness.clock.turn import ALONE, Turn
from harness.core.errors import HarnessError
from harness.core.records import ClockReading, Outcome, WatchRecord
from harness.core.timebase import NS_PER_S, Deadline
from harness.maintenance.session import GuestSession

#: For a second opinion; an agent that hangs must not hold us up.
_OPINION_S = 3.0
#: What a single reading may leave open of the lag that is tolerated.
_LAG_SHARE = 0.2


@dataclass(frozen=True)
class ClockOutcome:
    """What became of one guest's clock after the resume."""

    after_resume: ClockReading | None
    after_correction: ClockReading | None = None
    method: str | None = None
    stale_clock_window_s: float | None = None
    """Resume returned → correction verified."""
    problem: str | None = None
    """Why the clock could not be measured or corrected, in words."""
    attempts: tuple[str, ...] = ()
    doubt: str | None = None
    """Why the clock, right as it is, may not stay so."""
    target_s: float = 0.0
    """The offset it should have; with its uncertainty."""
    target_uncertainty_s: float = 0.0
    guest_agent: ClockReading | None = None
    rtc_offset_s: float | None = None
    watch: WatchRecord | None = None

    @property
    def at_end(self) -> ClockReading | None:
        """The last word on this clock."""
        return self.after_correction or self.after_resume


def correct_clock(
    session: GuestSession,
    resumed_ns: int,
    deadline: Deadline,
    *,
    before: ClockReading | None = None,
    foreseen: Foreseen | None = None,
    turn: Turn = ALONE,
) -> ClockOutcome:
    """Measure, correct where the configuration allows it, measure again.

    A guest that finds its clock as it must be after the pause steps it at once. Else one sample is
    enough that says so.

    ``resumed_ns`` is when the guest's resume returned, on the host's CLOCK_MONOTONIC; ``turn`` is
    its turn among others. Never raises a HarnessError: what went wrong is part of the result.
    """
    policy = session.policy(before)
    try:
        after_resume, stepped = _look(session, policy, foreseen, deadline, turn)
    except HarnessError as error:
        return ClockOutcome(None, problem=str(error))
    seen = ClockOutcome(
        after_resume,
        target_s=policy.target_s,
        target_uncertainty_s=policy.target_uncertainty_s,
    )
    if not session.settings.correct:
        return replace(seen, problem="correction is switched off")
    try:
        known = _known(session, policy, foreseen, after_resume)
        first = after_resume if known is None else known
        reach = replace(session.reach, turn=turn)
        correction = correct(reach, policy, deadline, first, stepped)
    except HarnessError as error:
        return replace(seen, problem=str(error))
    return replace(
        seen,
        # What was known is no reading: where nothing could be done, the reading is the last word.
        after_correction=after_resume if correction.after is first else correction.after,
        method=correction.method,
        stale_clock_window_s=_since(resumed_ns, correction),
        problem=correction.refused,
        attempts=correction.attempts,
        doubt=correction.doubt,
    )


def _look(
    session: GuestSession,
    policy: CorrectionPolicy,
    foreseen: Foreseen | None,
    deadline: Deadline,
    turn: Turn,
) -> tuple[ClockReading, Stepped | None]:
    """Return the clock as it was resumed, and the step that came before that could be told."""
    first = None
    if session.settings.correct:
        first = step_at_once(session.reach, policy, foreseen, deadline)
    if isinstance(first, Stepped):
        return first.before, first

    # Each exchange makes the clock stale for longer; how right it got is read with all of them.
    def enough(reading: ClockReading) -> bool:
        known = _known(session, policy, foreseen, reading)
        return session.settings.correct and (policy.is_enough(reading) or known is not None)

    with turn.talking():
        reading = session.sampler.read_well(
            policy.samples,
            policy.tolerance_s / 2,
            deadline,
            enough=enough,
            first=first,
            busy_s=turn.busy_s,
        )
    return reading, None


def _known(
    session: GuestSession,
    policy: CorrectionPolicy,
    foreseen: Foreseen | None,
    reading: ClockReading,
) -> ClockReading | None:
    """What to correct the clock by, where it is as foreseen; else None.

    The reading is evidence of the pause as well, and must tell that with some to spare.
    """
    if foreseen is None or reading.uncertainty_s > session.settings.lag_tolerance_s * _LAG_SHARE:
        return None
    return foreseen.reason_to_act(reading, policy)


def observe_clock(
    outcome: ClockOutcome,
    session: GuestSession,
    deadline: Deadline,
    *,
    before: ClockReading | None = None,
) -> ClockOutcome:
    """Return ``outcome`` with what is not urgent: a second opinion, and the watch if asked for.

    Never raises a HarnessError: what went wrong is part of the result.
    """
    if outcome.after_resume is None:
        return outcome
    agent, rtc_s = second_opinion(session, deadline)
    outcome = replace(outcome, guest_agent=agent, rtc_offset_s=rtc_s)
    policy = session.policy(before)
    right = outcome.at_end is not None and policy.judge(outcome.at_end) is Outcome.PASS
    watch_s = session.settings.watch_s
    if watch_s > 0 and right:
        seen = watch(session.sampler, policy, watch_s, deadline)
        outcome = replace(outcome, watch=seen)
    return outcome


def _since(resumed_ns: int, correction: Correction) -> float | None:
    if correction.verified_ns is None:
        return None
    return (correction.verified_ns - resumed_ns) / NS_PER_S


def second_opinion(
    session: GuestSession, deadline: Deadline
) -> tuple[ClockReading | None, float | None]:
    """(the guest agent's reading, the RTC's offset); None for what there is not."""
    agent = rtc_s = None
    until = deadline.sooner(_OPINION_S)
    try:
        # One that is all there is has been asked already.
        if session.reach.agent is not None and session.sampler.interpreter != GUEST_AGENT:
            agent = session.reach.agent.get(until).reading_in(session.facts.os)
    except HarnessError:
        pass  # no agent, or one that does not answer: it is an extra
    with contextlib.suppress(HarnessError):
        rtc_s = session.sampler.rtc_s(until)
    return agent, rtc_s


def second_opinion_fields(agent: ClockReading | None, ours: ClockReading | None) -> dict[str, Any]:
    """The guest agent's reading beside ours, as fields of a record."""
    if agent is None or ours is None:
        return {"guest_agent": agent}
    apart_s = agent.offset_s - ours.offset_s
    return {
        "guest_agent": agent,
        "guest_agent_disagreement_s": apart_s,
        "guest_agent_agrees": abs(apart_s) <= agent.uncertainty_s + ours.uncertainty_s,
    }
