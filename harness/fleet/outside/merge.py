"""What the host answered, with what was seen from here, as a record of this machine. Pure."""

from __future__ import annotations

from datetime import datetime

from harness import __version__
from harness.core.errors import HarnessError, InfrastructureError
from harness.core.records import (
    GuestRecord,
    HostRecord,
    Outcome,
    OutsideRecord,
    RunRecord,
    SilenceRecord,
    UpdateRecord,
)
from harness.fleet.outside.place import Place
from harness.fleet.outside.watch import Watched
from harness.results.answer import Answer

#: An answer may be under way when a guest is paused already.
_FORGIVEN_S = 0.5


def expect_own(answer: Answer, rollout: str, place: Place) -> None:
    """Raise InfrastructureError for an answer or a record that is of another run."""
    of_answer = answer.rollout
    of_record = answer.record.rollout if answer.record is not None else rollout
    if (of_answer, of_record) != (rollout, rollout):
        raise InfrastructureError(
            f"{place.host} answered with what is of run {of_answer} (its record: {of_record}), not "
            f"of {rollout}; it was not kept",
            hint=f"look at `harness status` and `harness report` on {place.host}",
        )


def merged(
    record: RunRecord,
    answer: Answer,
    place: Place,
    watched: Watched,
    unreachable_s: float | None,
) -> RunRecord:
    """Return the host's record with what was seen from here.

    A guest that answered before and does not any more is a broken promise, whatever the host says.
    """
    silent = [one for one in watched.guests if not one.answers]
    problems = tuple(
        f"{one.name} answered at {one.address} before the run, and has not for {one.silent_s:.1f} s"
        for one in silent
    )
    doubts = tuple(
        f"{one.name}: what answers at {one.address} was silent for {one.silent_s:.1f} s at most, "
        f"and the guest was paused for {guest.pause_window_s:.1f} s: it is another machine's"
        for one in watched.guests
        for guest in record.guests
        if _answered_in_its_pause(one, guest)
    )
    outcome = Outcome.worst([record.outcome, Outcome.FAIL]) if silent else record.outcome
    code = answer.exit_code or record.exit_code
    return record.model_copy(
        update={
            "outside": _seen(place, answer.rollout, watched, unreachable_s),
            "outcome": outcome,
            "exit_code": code or (1 if silent else 0),
            "problems": (*record.problems, *problems),
            "warnings": (*record.warnings, *doubts),
        }
    )


def _seen(
    place: Place, rollout: str, watched: Watched, unreachable_s: float | None = None
) -> OutsideRecord:
    return OutsideRecord(
        uri=place.uri,
        rollout=rollout,
        unreachable_s=unreachable_s,
        host=watched.host,
        guests=watched.guests,
        notes=watched.notes,
    )


def _answered_in_its_pause(seen: SilenceRecord, guest: GuestRecord) -> bool:
    """Return True if what was asked cannot have been the guest: it stood still for longer."""
    paused_s = guest.pause_window_s
    if seen.name != guest.name or paused_s is None:
        return False
    return seen.silent_s + seen.uncertainty_s + _FORGIVEN_S < paused_s


def unfinished(
    run_id: str,
    error: HarnessError,
    place: Place,
    rollout: str,
    watched: Watched,
    *,
    kind: str,
    budget_s: float,
    started_at: datetime,
    finished_at: datetime,
) -> RunRecord:
    """Return the record of a run whose host did not come back: what is known, and what is not."""
    return RunRecord(
        run_id=run_id,
        started_at=started_at,
        finished_at=finished_at,
        outcome=Outcome.ERROR,
        exit_code=error.exit_code,
        budget_s=budget_s,
        host=HostRecord(
            hostname=place.host,
            kernel="not known",
            libvirt="not known",
            hypervisor="not known",
            cpu="not known",
            accelerator="not known",
        ),
        update=UpdateRecord(kind=kind),
        harness_version=__version__,
        rollout=rollout,
        outside=_seen(place, rollout, watched),
        problems=(str(error),),
    )
