"""The clock of a guest that a dead run had paused: corrected, judged, and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.clock.arithmetic import judge_offset
from harness.core.errors import HarnessError, PlanError
from harness.core.records import Outcome
from harness.core.timebase import Deadline
from harness.maintenance.admission import Claims
from harness.maintenance.guest_clock import ClockOutcome, correct_clock, observe_clock
from harness.maintenance.recovery.record import GuestRecovery
from harness.maintenance.session import GuestSession

LogIn = Callable[[str, Deadline], GuestSession]
"""Opens a session with the guest of that UUID, by a deadline. Raises a HarnessError."""


def correct_one(
    guest: GuestRecovery, log_in: LogIn, claims: Claims, deadline: Deadline
) -> GuestRecovery:
    """Correct the clock of a guest that runs, and return what became of it."""
    try:
        session = log_in(guest.member.uuid, deadline)
    except HarnessError as error:
        return _not_corrected(guest, error)
    guest = replace(guest, accelerator=session.info.accelerator)
    try:
        claims.claim(session.found)
        measured = correct_clock(session, deadline.clock.monotonic_ns(), deadline)
        clock = observe_clock(measured, session, deadline)
    except PlanError as error:
        return _not_corrected(guest, error)
    finally:
        session.close()
    return replace(
        guest,
        clock=clock,
        problem=clock.problem or clock.doubt,
        clock_verdict=_judge_clock(clock, session.tolerance_s),
    )


def _not_corrected(guest: GuestRecovery, error: HarnessError) -> GuestRecovery:
    return replace(guest, problem=str(error), clock_verdict=Outcome.ERROR)


def known_apart(guest: GuestRecovery, claims: Claims) -> GuestRecovery:
    """The first of two that are not known apart was let through: its clock may be the other's."""
    refused = claims.refused.get(guest.member.name)
    return guest if refused is None else _not_corrected(guest, refused)


def _judge_clock(clock: ClockOutcome, tolerance_s: float) -> Outcome:
    end = clock.at_end
    if end is None or clock.doubt:
        return Outcome.ERROR
    return judge_offset(end.offset_s, end.uncertainty_s, tolerance_s)
