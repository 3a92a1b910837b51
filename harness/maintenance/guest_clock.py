"""After the resume, per guest and as fast as possible: measure the clock, correct it, verify.

What is not urgent comes after that: a second opinion by the guest agent, the RTC, the watch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from harness.clock.correction import Correction, correct
from harness.clock.monitor import watch
from harness.core.errors import HarnessError, WrongState
from harness.core.records import ClockReading, Outcome, WatchRecord
from harness.core.settings import Config
from harness.core.timebase import NS_PER_S, Deadline, Stopwatch
from harness.guest.protocol import Connector
from harness.host.clock_sync import synchronised
from harness.host.lifecycle import GuestState
from harness.host.protocol import GuestInfo, Hypervisor
from harness.maintenance.session import GuestSession, Login

Row = dict[str, Any]

#: For a second opinion; an agent that hangs must not hold us up.
_OPINION_S = 3.0


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
    when_right: Callable[[], None] = lambda: None,
) -> ClockOutcome:
    """Measure, correct where the configuration allows it, measure again.

    ``resumed_ns`` is when the guest's resume returned, on the host's CLOCK_MONOTONIC;
    ``when_right`` is called as soon as the clock is, before all that is less urgent. Never
    raises a HarnessError: what went wrong is part of the result.
    """
    policy = session.policy(before)
    try:
        # Each exchange makes the clock stale for longer; how right it got is read with all of them.
        after_resume = session.sampler.read_well(
            policy.samples, policy.tolerance_s / 2, deadline, quick_s=policy.quick_s
        )
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
        correction = correct(session.reach, policy, deadline, after_resume, when_right)
    except HarnessError as error:
        return replace(seen, problem=str(error))
    return replace(
        seen,
        after_correction=correction.after,
        method=correction.method,
        stale_clock_window_s=_since(resumed_ns, correction),
        problem=correction.refused,
        attempts=correction.attempts,
        doubt=correction.doubt,
    )


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
        if session.reach.agent is not None:
            agent = session.reach.agent.get(until).reading
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


def tend(
    info: GuestInfo,
    config: Config,
    hypervisor: Hypervisor,
    connector: Connector,
    deadline: Deadline,
    *,
    mend: bool,
) -> Row:
    """Measure one guest's clock, correct it if asked to, watch it if configured; as JSON.

    Raises a HarnessError if the guest cannot be read at all.
    """
    if info.state.state is not GuestState.RUNNING:
        said = f"is {info.state}, so its clock stands still"
        raise WrongState(said, operation="measuring", guest=info.name)
    section = config.for_guest(info.name, info.uuid)
    login = Login(info, section, config.ssh, hypervisor, connector)
    session = GuestSession.open(login, config.clock, deadline)
    try:
        return _tend(session, config, deadline, mend=mend)
    finally:
        session.close()


def lost(name: str, config: Config, error: HarnessError) -> Row:
    """The row of a guest that could not be read: an honest ERROR with the reason."""
    hint = f" (hint: {error.hint})" if error.hint else ""
    return {**_blank(name, config), "problem": f"{error.message}{hint}"}


def _blank(name: str, config: Config) -> Row:
    return {
        "name": name,
        "outcome": Outcome.ERROR.value,
        "tolerance_s": config.clock.tolerance_s,
        "before": None,
        "after": None,
        "method": None,
        "refused": None,
        "problem": None,
        "interpreter": None,
        "methods": list(config.clock.methods),
    }


def _tend(session: GuestSession, config: Config, deadline: Deadline, *, mend: bool) -> Row:
    policy = session.policy()
    stopwatch = Stopwatch()
    before = session.sampler.read_well(policy.samples, policy.tolerance_s / 2, deadline)
    done = correct(session.reach, policy, deadline, before) if mend else Correction(None, before)
    took_s = None
    if done.verified_ns is not None:
        took_s = (done.verified_ns - stopwatch.started_ns) / NS_PER_S
    agent, rtc_s = second_opinion(session, deadline)
    outcome = policy.judge(done.after)
    watched = None
    if config.clock.watch_s > 0 and (outcome is Outcome.PASS or not mend):
        watched = watch(session.sampler, policy, config.clock.watch_s, deadline)
    return {
        **_blank(session.name, config),
        "outcome": _verdict(outcome, done, watched).value,
        "tolerance_s": session.tolerance_s,
        "before": before.model_dump(),
        "after": done.after.model_dump(),
        "method": done.method,
        "refused": done.refused,
        "problem": _problem(done, watched),
        "interpreter": session.sampler.interpreter,
        "attempts": list(done.attempts),
        "doubt": done.doubt,
        "corrected_in_s": took_s,
        "time_daemon": session.facts.time_daemon,
        "host_synchronised": synchronised(),
        "rtc_offset_s": rtc_s,
        "watch": watched.model_dump(mode="json") if watched else None,
        **_dumped(second_opinion_fields(agent, done.after)),
    }


def _verdict(outcome: Outcome, done: Correction, watched: WatchRecord | None) -> Outcome:
    outcomes = [outcome]
    if watched is not None:
        outcomes.append(watched.outcome)
    elif done.doubt:
        outcomes.append(Outcome.ERROR)  # right now, but we cannot tell for how long
    return Outcome.worst(outcomes)


def _problem(done: Correction, watched: WatchRecord | None) -> str | None:
    said = [done.refused, done.doubt, watched.detail if watched else None]
    return "; ".join(words for words in said if words) or None


def _dumped(fields: dict[str, Any]) -> Row:
    return {
        key: value.model_dump() if isinstance(value, ClockReading) else value
        for key, value in fields.items()
    }
