"""After the resume, each guest by itself: correct its clock in the queue, then look at it again.

One guest that has fallen silent costs the others a few seconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from harness.checks.evidence import Observed, Testimony
from harness.clock.foreseen import Foreseen
from harness.core.errors import HarnessError
from harness.core.fanout import errors, fan_out
from harness.core.timebase import Deadline
from harness.guest.kernel_log import KernelLog, look_again
from harness.maintenance.before_pause import Baseline
from harness.maintenance.correction_queue import CorrectionQueue
from harness.maintenance.guest_clock import ClockOutcome, correct_clock, observe_clock
from harness.maintenance.pause.outcome import GuestPause
from harness.maintenance.session import GuestSession
from harness.results.journal import Journal, entries

#: Every step ends by the deadline itself; this is for what it does after that.
_SLACK_S = 2.0
#: For logging in again to a guest whose connection broke.
_AGAIN_S = 10.0


Corrected = Callable[[str, ClockOutcome], None]


def _unheard(name: str, outcome: ClockOutcome) -> None:
    pass


@dataclass(frozen=True)
class Aftermath:
    """One guest after the pause; None and empty where it was silent."""

    clock: ClockOutcome
    seen: Observed = Observed()
    kernel_log: KernelLog | None = None
    testimony: Testimony | None = None
    """What its probes told."""


def correct_and_observe(
    sessions: Mapping[str, GuestSession],
    baselines: Mapping[str, Baseline],
    pauses: Mapping[str, GuestPause],
    journal: Journal,
    deadline: Deadline,
    corrected: Corrected = _unheard,
) -> dict[str, Aftermath]:
    """Correct the clock of every guest that runs again, and look at the guest; in parallel.

    ``corrected`` is called with a guest's name and outcome as soon as its clock is corrected and no
    other guest waits for that, from a thread of that guest's own.

    Never raises a HarnessError: what went wrong is part of the result.
    """
    queue = CorrectionQueue(sum(pauses[name].resume_returned_ns is not None for name in sessions))
    urgency = {name: _urgency(one, baselines[name], pauses[name]) for name, one in sessions.items()}
    one = partial(_one, journal=journal, queue=queue, deadline=deadline, corrected=corrected)
    calls = {
        name: partial(one, sessions[name], baselines[name], pauses[name], urgency[name])
        for name in sorted(sessions, key=urgency.__getitem__, reverse=True)
    }
    until = Deadline.after(deadline.remaining_s() + _SLACK_S, deadline.clock)
    answers = fan_out(calls, until, what="correcting the clock")
    late = errors(answers)
    return {
        name: Aftermath(ClockOutcome(None, problem=str(late[name])))
        if name in late
        else answers[name].get()
        for name in sessions
    }


def _urgency(session: GuestSession, before: Baseline, pause: GuestPause) -> tuple[int, float]:
    """Whose clock comes first: by its owner's word, then the one that must be furthest off."""
    error_s = session.policy(before.clock).error_s(before.clock) - (pause.outer_s or 0.0)
    return session.login.section.priority, abs(error_s)


def _one(
    session: GuestSession,
    before: Baseline,
    pause: GuestPause,
    urgency: tuple[int, float],
    *,
    journal: Journal,
    queue: CorrectionQueue,
    deadline: Deadline,
    corrected: Corrected,
) -> Aftermath:
    if pause.resume_returned_ns is None:
        problem = "not resumed by this run, so it was left alone"
        seen = session.observe(None, deadline, before.seen.process)
        return Aftermath(ClockOutcome(None, problem=problem), seen)
    resumed_ns = pause.resume_returned_ns
    waits, heard = not session.sampler.can_step, lambda: session.sampler.heard_ns
    with queue.place(deadline, urgency, waits=waits, heard=heard) as place:
        outcome = correct_clock(
            session,
            resumed_ns,
            deadline,
            before=before.clock,
            foreseen=_foreseen(before, pause),
            turn=place,
        )
    if outcome.after_resume is not None:
        uuid = session.info.uuid
        journal.note(entries.Mended(session.name, uuid, outcome.method))
    if outcome.after_correction is not None:
        corrected(session.name, outcome)
    outcome = observe_clock(outcome, session, deadline, before=before.clock)
    boot_id, log = _look_again(session, before, deadline)
    seen = session.observe(boot_id, deadline, before.seen.process)
    told = session.probes.stop(deadline) if session.probes is not None else None
    return Aftermath(outcome, seen, log, told)


def _foreseen(before: Baseline, pause: GuestPause) -> Foreseen | None:
    """What is known of the clock before it is asked."""
    if pause.inner_s is None or pause.outer_s is None:
        return None
    return Foreseen(before.clock, pause.inner_s, pause.outer_s)


def _look_again(
    session: GuestSession, before: Baseline, deadline: Deadline
) -> tuple[str | None, KernelLog | None]:
    if not session.facts.boot_id:  # nothing of it could be read before either
        return None, None
    try:
        log = before.kernel_log
        return look_again(session.shell, log, deadline, session.python, session.looks)
    except HarnessError:  # silent; its process can be seen all the same
        return session.boot_id_anew(deadline.sooner(_AGAIN_S)), None
