"""What became of dead runs: guest by guest, and in the records that they left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.core.errors import GuestStranded, HarnessError, Interrupted
from harness.core.records import (
    EXIT_CODES,
    ClockRecord,
    GuestRecord,
    Outcome,
    RunRecord,
    UpdateDomainRecord,
)
from harness.core.timebase import NS_PER_S, Clock, utc_now
from harness.maintenance.guest_clock import ClockOutcome
from harness.results.folder import RunFolder
from harness.results.journal import History, Member


class Action(StrEnum):
    """What was done, or would be done, about one guest."""

    RESUMED = "resumed"
    RUNS = "runs already"
    ENDED = "has ended"
    LEFT_ALONE = "left alone"
    SAVED = "SAVED, PAUSED"
    """On disk: the next start brings it back as the run paused it."""
    AWAY = "MIGRATED, PAUSED"
    """On another host, where it was not looked at."""
    LOST = "LOST, PAUSED"
    """libvirt does not know it any more, but its process lives."""
    STRANDED = "STILL PAUSED"
    UNSEEN = "NOT LOOKED AT"


#: Guests that the run holds, and that do not run.
HELD = frozenset({Action.STRANDED, Action.SAVED, Action.AWAY, Action.LOST})


@dataclass(frozen=True)
class GuestRecovery:
    """What was done, or would be done, about one guest of a dead run."""

    member: Member
    action: Action
    why: str
    clock: ClockOutcome | None = None
    clock_verdict: Outcome | None = None
    """None where there was no clock to correct."""
    problem: str | None = None
    accelerator: str = "unknown"
    paused: bool = False
    """It was seen to be paused, by whomever, or held and not seen to run."""
    resume_hint: str = ""
    """What a person does about it, where it is paused: commands to paste."""


@dataclass(frozen=True)
class RunRecovery:
    """What became of one dead run."""

    folder: RunFolder
    guests: tuple[GuestRecovery, ...] = ()
    error: HarnessError | None = None
    """Why it could not be finished, or not for sure."""
    notes: tuple[str, ...] = ()
    """What was missing and could be done without."""
    booted_since: bool = False
    """The host was booted since the run died."""
    verdict: Outcome | None = None
    """Of a run that died by design, and has no exit code of its own: what it was judged to be."""

    @property
    def stranded(self) -> list[str]:
        """Guests that the run holds, and that could not be resumed."""
        return [g.member.name for g in self.guests if g.action in HELD]

    @property
    def paused(self) -> list[str]:
        """Guests that are paused, by this run or by another program."""
        return [g.member.name for g in self.guests if g.paused or g.action in HELD]


def completed(
    record: RunRecord, recovery: RunRecovery, history: History, clock: Clock
) -> RunRecord:
    """The record that the run left, completed as interrupted; what it judged itself stays."""
    if record.finished_at is not None:
        return _relieved(record, recovery)
    known = {guest.name for guest in record.guests}
    added = [guest_record(guest, history, recovery.booted_since) for guest in recovery.guests]
    new = tuple(guest for guest in added if guest.name not in known)
    domain = _domain(history, new)
    lost = history.arrived.problem if history.arrived is not None else ""
    ended = EXIT_CODES[Outcome.ERROR] if lost else Interrupted.exit_code
    return record.model_copy(
        update={
            "finished_at": utc_now(clock),
            "outcome": Outcome.ERROR,
            "exit_code": GuestStranded.exit_code if recovery.paused else ended,
            "guests": (*record.guests, *new),
            "update_domains": (*record.update_domains, *([domain] if new else [])),
            "problems": (
                f"the next kernel brought back no guest: {lost}"
                if lost
                else "the run's process died; this record was completed by harness recover",
                *(f"journal: {notice}" for notice in history.notices),
            ),
        }
    )


def _relieved(record: RunRecord, recovery: RunRecovery) -> RunRecord:
    """Of a run that ended with guests still paused: who is so no longer. Its verdicts stay."""
    recoveries = {one.member.uuid: one for one in recovery.guests}

    def now(guest: GuestRecord) -> GuestRecord:
        one = recoveries.get(guest.uuid)
        if one is None or not guest.still_paused:
            return guest
        problems = (*guest.problems, f"harness recover: {_said(one)}")
        paused = one.paused or one.action in HELD
        hint = one.resume_hint if paused else ""
        return guest.model_copy(
            update={"still_paused": paused, "resume_hint": hint, "problems": problems}
        )

    return record.model_copy(update={"guests": tuple(now(guest) for guest in record.guests)})


def _said(guest: GuestRecovery) -> str:
    return f"{guest.member.name}: {guest.action}: {guest.why}"


def guest_record(guest: GuestRecovery, history: History, booted_since: bool) -> GuestRecord:
    """Return the record of a guest that was not judged."""
    clock = guest.clock or ClockOutcome(None)
    return GuestRecord(
        name=guest.member.name,
        uuid=guest.member.uuid,
        outcome=Outcome.ERROR,
        accelerator=guest.accelerator,
        pause_window_s=None if booted_since else _paused_for_s(guest.member, history),
        clock=ClockRecord(
            method=clock.method,
            after_resume=clock.after_resume,
            after_correction=clock.after_correction,
        ),
        still_paused=guest.paused or guest.action in HELD,
        resume_hint=guest.resume_hint,
        problems=(_said(guest), *([guest.problem] if guest.problem else [])),
    )


def _paused_for_s(member: Member, history: History) -> float | None:
    """From the intent to pause to the resume, by the journal's boot clock; None if unknown."""
    window = [window for window in history.windows if member.uuid in window.guests][-1]
    resumed_ns = max(window.guests[member.uuid].resumed_ns.values(), default=None)
    return None if resumed_ns is None else (resumed_ns - window.began_ns) / NS_PER_S


def _domain(history: History, guests: Sequence[GuestRecord]) -> UpdateDomainRecord:
    windows = [guest.pause_window_s for guest in guests if guest.pause_window_s is not None]
    return UpdateDomainRecord(
        name=history.domain or "unknown",
        guests=tuple(guest.name for guest in guests),
        outcome=Outcome.ERROR,
        pause_window_s=max(windows, default=None),
        problems=("the run's process died during this update domain",),
    )
