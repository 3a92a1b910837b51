"""What a dead run left behind is finished: guests resumed, clocks corrected, its record completed.

A run is dead when its process is gone (no process holds its journal's lock) and its journal has no
end; one that had to leave guests paused has none either. Journal and actual state are compared
guest by guest, each for itself; only what was paused by this run, as far as can be seen, is
resumed. That comes first and takes nothing but the journal and libvirt; what else is missing costs
a note. Safe to run at any time, and again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from harness.core.errors import HarnessError, InternalError, JournalError, UsageError
from harness.core.records import Outcome
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.host.lifecycle import GuestState, StateReading
from harness.host.protocol import Hypervisor
from harness.maintenance.admission import Claims
from harness.maintenance.pause.resume import resume_all
from harness.maintenance.pause.takeover import PauseEdge
from harness.maintenance.pause.unparking import returns
from harness.maintenance.recovery import handover
from harness.maintenance.recovery.assessment import LOOK_S, compare, recovery_of, what_is_to_do
from harness.maintenance.recovery.clock import LogIn, correct_one, known_apart
from harness.maintenance.recovery.handover import take_over, was_handed_over
from harness.maintenance.recovery.record import Action, GuestRecovery, RunRecovery, completed
from harness.maintenance.recovery.whose_pause import Sight, Verdict, judge, look
from harness.results.folder import RunFolder
from harness.results.journal import (
    FILE_NAME,
    Entry,
    GuestCustody,
    History,
    Journal,
    ToDo,
    entries,
    fold,
    read,
)

#: A guest that runs is among them: the pause that the run asked for last may be on its way.
_TO_RESUME = (Verdict.RESUME, Verdict.AWAIT)
#: What is done about a guest that runs in the end.
_RUNNING = (Action.RESUMED, Action.RUNS)
#: Nothing of such a guest is needed any more that was kept to bring it back.
_NEEDS_NOTHING = (Verdict.RUNS, Verdict.BOOTED, Verdict.ENDED, Verdict.THEIRS)

#: What is written of a guest that the run held, and that needs no resume.
_NOTED: dict[Verdict, Callable[[str, str, str], Entry]] = {
    Verdict.RUNS: entries.Resumed,
    Verdict.BOOTED: entries.Ended,
    Verdict.ENDED: entries.Ended,
    Verdict.SAVED: entries.Saved,
    Verdict.THEIRS: entries.TakenOver,
}


def assess(folder: RunFolder, hypervisor: Hypervisor, clock: Clock = SYSTEM_CLOCK) -> RunRecovery:
    """Compare journal and actual state; changes nothing. Raises JournalError."""
    history = fold(read(folder.path / FILE_NAME))
    return compare(folder, history, hypervisor, clock)[0]


def recover(
    folder: RunFolder,
    hypervisor: Hypervisor,
    log_in: LogIn,
    *,
    patience_s: float,
    deadline: Deadline,
) -> RunRecovery:
    """Finish one dead run: :func:`rescue`, then :func:`finish`. Raises JournalError."""
    with Journal(folder.path, folder.run_id, deadline.clock) as journal:
        found = rescue(folder, journal, hypervisor, patience_s, deadline.clock)
        return finish(found, journal, log_in, deadline)


def rescue(
    folder: RunFolder,
    journal: Journal,
    hypervisor: Hypervisor,
    patience_s: float,
    clock: Clock = SYSTEM_CLOCK,
) -> RunRecovery:
    """Resume what a dead run left paused, and return what became of each of its guests.

    A guest that does not run within ``patience_s`` is given up. A journal that is damaged, or of a
    newer version, is followed as far as it is understood; the result says so in ``error``. Raises
    JournalError if there is none to be read.
    """
    history = take_over(fold(journal.read()), journal, Deadline.after(LOOK_S, clock))
    found, judged = compare(folder, history, hypervisor, clock)
    for uuid, (verdict, _) in judged.items():
        if history.guests[uuid].held and verdict in _NOTED:
            member = history.guests[uuid].member
            journal.note(_NOTED[verdict](member.name, member.uuid, "recover"))
    _settle(history, judged, hypervisor, journal, clock)
    wanted = {uuid: sight for uuid, (verdict, sight) in judged.items() if verdict in _TO_RESUME}
    if not wanted:
        return found
    now_ns = clock.monotonic_ns()
    answers = resume_all(
        [history.guests[uuid].member for uuid in wanted],
        hypervisor,
        journal,
        by="recover",
        since_ns=now_ns,
        judged={
            uuid: PauseEdge(now_ns, sight.process, sight.vcpu_ns) for uuid, sight in wanted.items()
        },
        deadline=Deadline.after(patience_s, clock),
        booted_since=found.booted_since,
    )

    def after(guest: GuestRecovery) -> GuestRecovery:
        error = answers[guest.member.name].error if guest.member.uuid in wanted else None
        if error is None:
            return guest
        custody = history.guests[guest.member.uuid]
        return _given_up(guest, error, custody, hypervisor, Deadline.after(LOOK_S, clock))

    return replace(found, guests=tuple(after(guest) for guest in found.guests))


def _settle(
    history: History,
    judged: Mapping[str, tuple[Verdict, Sight]],
    hypervisor: Hypervisor,
    journal: Journal,
    clock: Clock,
) -> None:
    """Remove what was kept for guests that need no return: they run, or nothing of them is left."""
    until = Deadline.after(LOOK_S, clock)
    back = returns({}, history.guests, hypervisor, journal, "recover", until)
    for uuid, way in back.items():
        settled = history.guests[uuid].settled_ns is not None
        if uuid in judged and judged[uuid][0] in _NEEDS_NOTHING and not settled:
            way.settle()


def _given_up(
    guest: GuestRecovery,
    error: BaseException,
    custody: GuestCustody,
    hypervisor: Hypervisor,
    deadline: Deadline,
) -> GuestRecovery:
    """Return what became of a guest that could not be resumed: it is looked at once more."""
    try:
        sight = look(custody, hypervisor, deadline)
    except HarnessError:  # it was not seen running, nor ended
        sight = Sight(StateReading(GuestState.PAUSED, "unknown"))
    verdict, why = judge(custody, sight, booted_since=False)
    if verdict is Verdict.RESUME:
        hint = what_is_to_do(guest.member, hypervisor.uri, verdict, sight)
        why = f"{error}; it is {sight.reading}"
        return replace(guest, action=Action.STRANDED, why=why, paused=True, resume_hint=hint)
    return recovery_of(custody, hypervisor.uri, verdict, why, sight)


def finish(
    found: RunRecovery,
    journal: Journal,
    log_in: LogIn,
    deadline: Deadline,
    go_on: Callable[[], bool] = lambda: True,
) -> RunRecovery:
    """Correct the clocks of guests that run, complete the record, and mark the run as finished.

    It is not marked where a guest is still held, or could not be looked at, nor where ``go_on``,
    which is asked before each clock, says that there is no more time. Never raises a HarnessError.
    """
    if found.guests and all(guest.action is Action.UNSEEN for guest in found.guests):
        return found  # libvirt was not there: the record stays as it is
    history = fold(journal.read())
    if was_handed_over(history) and any(one.action in _RUNNING for one in found.guests):
        return _judge_handover(found, journal, log_in, deadline)
    wanted = {u for u, g in history.guests.items() if ToDo.CORRECT_CLOCK in g.todo}
    guests, claims = list(found.guests), Claims()
    for position, guest in enumerate(guests):
        if guest.action in _RUNNING and guest.member.uuid in wanted:
            if not go_on():
                return replace(found, guests=tuple(guests))
            guests[position] = correct_one(guest, log_in, claims, deadline)
    recovery = replace(found, guests=tuple(known_apart(guest, claims) for guest in guests))
    error, notes = _complete(recovery, history, deadline)
    recovery = replace(recovery, error=recovery.error or error, notes=(*recovery.notes, *notes))
    if history.arrived is not None and history.arrived.problem:
        recovery = replace(recovery, verdict=Outcome.ERROR)
    return _marked(recovery, journal)


def _judge_handover(
    found: RunRecovery, journal: Journal, log_in: LogIn, deadline: Deadline
) -> RunRecovery:
    """Finish a run that died with its kernel, by design, as it would have finished itself."""
    if found.stranded:
        return found  # no verdict yet: the next recover brings them back, and judges all together
    try:
        record = found.folder.record()
        if record.finished_at is None:
            config, _ = found.folder.config_as_understood()
            verdict = handover.judge(found, record, config.checks.chosen, journal, log_in, deadline)
            found.folder.write_record(verdict.record)
            found = replace(found, guests=verdict.guests, verdict=verdict.record.outcome)
    except HarnessError as error:
        return replace(found, error=error)
    return _marked(found, journal)


def _marked(recovery: RunRecovery, journal: Journal) -> RunRecovery:
    """Mark the run as finished, unless a guest is held still, or was not looked at."""
    if not recovery.stranded and recovery.error is None:
        actions = {guest.member.name: guest.action.value for guest in recovery.guests}
        try:
            journal.intend(entries.Recovered(actions))
        except JournalError as failure:
            return replace(recovery, error=failure)
        handover.forget_of(journal.run_id)
    return recovery


def _complete(
    recovery: RunRecovery, history: History, deadline: Deadline
) -> tuple[HarnessError | None, tuple[str, ...]]:
    """Complete the run's record; return why that failed, or in words why there is none."""
    folder = recovery.folder
    try:
        record = folder.record()
    except UsageError as error:
        return None, (f"{error}; no record was completed",)
    try:
        folder.write_record(completed(record, recovery, history, deadline.clock))
    except HarnessError as error:
        return error, ()
    except Exception as error:  # noqa: BLE001  e.g. a name in the journal that is no text
        return InternalError(error), ()
    return None, ()
