"""The update inside the pause window: in a thread of its own, abandoned when its time is over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from harness.core.errors import GuardianLost, HarnessError, Interrupted, UpdateFailed, UpdateOverran
from harness.core.signals import Interruption, Job
from harness.core.timebase import Deadline, Stopwatch
from harness.maintenance.pause.ending import Ending
from harness.maintenance.pause.guard import Guard
from harness.maintenance.pause.terms import UpdateCalls
from harness.updates.protocol import Applied


@dataclass(frozen=True)
class UpdateOutcome:
    """How the update went; all None if it was not begun."""

    took_s: float | None = None
    applied: Applied | None = None
    error: HarnessError | None = None


def apply_update(
    update: UpdateCalls,
    ending: Ending,
    deadline: Deadline,
    interruption: Interruption,
    guard: Guard,
) -> UpdateOutcome:
    """Run the update in its own thread and be done by the deadline, finished or not.

    What is not finished is ended only when the guests run: it may have restarted libvirtd.
    """
    watch = Stopwatch(deadline.clock)
    applied: Applied | None = None
    failed: HarnessError | None = None
    try:
        job = Job(partial(update.apply, deadline), name="update")
        if interruption.finished(job, deadline, guard.fd):
            applied = job.result()
        else:
            ending.ask()
            failed = _why_abandoned(interruption, guard, deadline)
    except HarnessError as error:
        if isinstance(error, UpdateOverran):
            ending.ask()
        failed = error
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  a bug of its own
        failed = UpdateFailed(f"the update raised {type(error).__name__}: {error}")
        failed.__cause__ = error
    return UpdateOutcome(watch.elapsed_s(), applied, failed)


def _why_abandoned(interruption: Interruption, guard: Guard, deadline: Deadline) -> HarnessError:
    if interruption.signal_name is not None:
        return Interrupted(interruption.signal_name, "the update was given up")
    if guard.lost:
        return GuardianLost("the guardian died, so the update was abandoned")
    return UpdateOverran(
        f"the update was abandoned after {deadline.limit_s:.1f} s, the budget less the resume "
        "reserve",
        hint="give it a larger --budget, or make it faster",
    )
