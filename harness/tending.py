"""One guest's clock, measured or mended without any pause: what ``harness clock`` does."""

from __future__ import annotations

from typing import Any

from harness.clock.correction import Correction, correct
from harness.clock.monitor import watch
from harness.core.errors import HarnessError, WrongState
from harness.core.records import ClockReading, Outcome, WatchRecord
from harness.core.settings import Config
from harness.core.timebase import NS_PER_S, Deadline, Stopwatch
from harness.host.clock_sync import synchronised
from harness.host.lifecycle import GuestState
from harness.host.protocol import GuestInfo, Hypervisor
from harness.maintenance.guest_clock import second_opinion
from harness.maintenance.session import GuestSession
from harness.maintenance.verdicts import second_opinion_fields

Row = dict[str, Any]


def tend(
    info: GuestInfo, config: Config, hypervisor: Hypervisor, deadline: Deadline, *, mend: bool
) -> Row:
    """Measure one guest's clock, correct it if asked to, watch it if configured; as JSON.

    Raises a HarnessError if the guest cannot be read at all.
    """
    if info.state.state is not GuestState.RUNNING:
        said = f"is {info.state}, so its clock stands still"
        raise WrongState(said, operation="measuring", guest=info.name)
    session = GuestSession.open(info, config, hypervisor, deadline)
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
    policy = session.policy(config)
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
