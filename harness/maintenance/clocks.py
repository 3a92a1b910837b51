"""Clocks of running guests, measured and corrected without a pause: ``harness clock``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness.clock.correction import Correction, correct
from harness.clock.monitor import watch
from harness.core.errors import HarnessError, WrongState
from harness.core.fanout import errors, fan_out
from harness.core.records import ClockReading, Outcome, Record, WatchRecord
from harness.core.settings import Access, ClockSection, GuestSection, SshSection, guest_section
from harness.core.timebase import NS_PER_S, Deadline, Stopwatch
from harness.guest.protocol import Connector
from harness.host.clock_sync import synchronised
from harness.host.lifecycle import GuestState
from harness.host.protocol import Hypervisor
from harness.maintenance.admission import Claims
from harness.maintenance.guest_access import Login
from harness.maintenance.guest_clock import second_opinion, second_opinion_fields
from harness.maintenance.named import pick
from harness.maintenance.resume_hint import way_to_run
from harness.maintenance.session import GuestSession

#: For what a guest does after its own deadline.
_SLACK_S = 2.0


class ClockReport(Record):
    """One guest's clock: how far it was from the host's, what was done, how far it is now.

    Offsets are guest − host in seconds; negative: the guest is slow.
    """

    name: str
    outcome: Outcome
    """PASS: within the tolerance; FAIL: not; ERROR: it could not be told."""
    tolerance_s: float | None = None
    """Allowed |offset|; None: the guest was not reached, and none is configured."""
    before: ClockReading | None = None
    """None: the guest could not be read; ``problem`` says why."""
    after: ClockReading | None = None
    """After the correction; the reading ``before`` where there was none."""
    method: str | None = None
    """How the clock was corrected; None: it was not. ``outcome`` says whether it is right now."""
    refused: str | None = None
    """Why the clock is not known to be right though it should be."""
    problem: str | None = None
    """What went wrong, in words."""
    interpreter: str | None = None
    """What the clock agent in the guest ran in."""
    methods: tuple[str, ...] = ()
    """The configured methods, first choice first."""
    attempts: tuple[str, ...] = ()
    doubt: str | None = None
    """Why the clock, right as it is, may not stay so."""
    corrected_in_s: float | None = None
    """First reading → correction verified, the first reading included."""
    time_daemon: str | None = None
    host_synchronised: bool | None = None
    """Whether the host's own clock is; None: unknown."""
    rtc_offset_s: float | None = None
    watch: WatchRecord | None = None
    guest_agent: ClockReading | None = None
    guest_agent_disagreement_s: float | None = None
    """guest agent's offset − ours, seconds."""
    guest_agent_agrees: bool | None = None


def settle_clocks(
    names: Sequence[str],
    hypervisor: Hypervisor,
    connector: Connector,
    deadline: Deadline,
    *,
    guests: Sequence[GuestSection],
    ssh: SshSection,
    settings: ClockSection,
    correct: bool,
    access: Access = "ssh",
) -> tuple[ClockReport, ...]:
    """Measure the guests' clocks at once, correct them if asked to, watch them if configured.

    Returns one outcome a guest, in the order of ``names``; one that could not be read has outcome
    ERROR. ``guests`` are the sections of the configuration. Raises UnknownGuest, or another
    HypervisorError if libvirt does not answer.
    """
    infos = pick(hypervisor.guests(deadline), names, hypervisor.uri)
    logins = [
        Login(info, guest_section(guests, info.name, info.uuid), ssh, hypervisor, connector, access)
        for info in infos
    ]
    claims = Claims()
    calls = {
        one.info.name: partial(_settle, one, settings, claims, deadline, correct=correct)
        for one in logins
    }
    until = Deadline.after(deadline.limit_s + _SLACK_S, deadline.clock)
    answers = fan_out(calls, until, what="measuring the clock")
    # Of two that are not known apart the first was let through: its clock may be the other's.
    failed = {**errors(answers), **claims.refused}
    return tuple(
        _lost(name, settings, failed[name]) if name in failed else answer.get()
        for name, answer in answers.items()
    )


def _settle(
    login: Login, settings: ClockSection, claims: Claims, deadline: Deadline, *, correct: bool
) -> ClockReport:
    """Raises a HarnessError if the guest cannot be read at all."""
    info = login.info
    if info.state.state is not GuestState.RUNNING:
        said = f"is {info.state}, so its clock stands still"
        hint = way_to_run(info, login.hypervisor.uri)
        raise WrongState(said, operation="measuring", guest=info.name, hint=hint)
    session = GuestSession.open(login, settings, deadline)
    try:
        claims.claim(session.found)
        return _measured(session, deadline, correcting=correct)
    finally:
        session.close()


def _lost(name: str, settings: ClockSection, error: HarnessError) -> ClockReport:
    """A guest that could not be read: an honest ERROR with the reason."""
    hint = f" (hint: {error.hint})" if error.hint else ""
    return ClockReport(
        name=name,
        outcome=Outcome.ERROR,
        tolerance_s=settings.tolerance_s,
        methods=settings.methods,
        problem=f"{error.message}{hint}",
    )


def _measured(session: GuestSession, deadline: Deadline, *, correcting: bool) -> ClockReport:
    policy, settings = session.policy(), session.settings
    stopwatch = Stopwatch(deadline.clock)
    before = session.sampler.read_well(policy.samples, policy.tolerance_s / 2, deadline)
    done = (
        correct(session.reach, policy, deadline, before) if correcting else Correction(None, before)
    )
    took_s = None
    if done.verified_ns is not None:
        took_s = (done.verified_ns - stopwatch.started_ns) / NS_PER_S
    agent, rtc_s = second_opinion(session, deadline)
    outcome = policy.judge(done.after)
    watched = None
    if settings.watch_s > 0 and (outcome is Outcome.PASS or not correcting):
        watched = watch(session.sampler, policy, settings.watch_s, deadline)
    return ClockReport(
        name=session.name,
        outcome=_verdict(outcome, done, watched),
        tolerance_s=session.tolerance_s,
        before=before,
        after=done.after,
        method=done.method,
        refused=done.refused,
        problem=_problem(done, watched),
        interpreter=session.sampler.interpreter,
        methods=settings.methods,
        attempts=done.attempts,
        doubt=done.doubt,
        corrected_in_s=took_s,
        time_daemon=session.facts.time_daemon,
        host_synchronised=synchronised(),
        rtc_offset_s=rtc_s,
        watch=watched,
        **second_opinion_fields(agent, done.after),
    )


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
