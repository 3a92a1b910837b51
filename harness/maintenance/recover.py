"""What a dead run left behind is finished: guests resumed, clocks corrected, its record completed.

A run is dead when its process is gone (nobody holds its journal's lock) and its journal has no
end; one that had to leave guests paused has none either. Journal and actual state are compared
guest by guest, each for itself; only what was paused by this run, as far as can be seen, is
resumed. That comes first and takes nothing but the journal and libvirt; what else is missing costs
a note. Safe to run at any time, and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from harness.core.errors import HarnessError, InternalError, JournalError, UsageError
from harness.core.fanout import fan_out
from harness.core.identity import boot_id
from harness.core.pasteable import command
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.host.lifecycle import GuestState, StateReading
from harness.host.protocol import Hypervisor
from harness.maintenance.admission import Claims
from harness.maintenance.pause.resume import resume_all
from harness.maintenance.pause.takeover import PauseEdge
from harness.maintenance.recovered_clock import LogIn, correct_one, known_apart
from harness.maintenance.recovery_record import Action, GuestRecovery, RunRecovery, completed
from harness.maintenance.resume_hint import Beside, what_helps
from harness.maintenance.whose_pause import Sight, Verdict, judge, look
from harness.results.folder import RunFolder
from harness.results.journal import (
    FILE_NAME,
    Custody,
    Entry,
    GuestCustody,
    History,
    Journal,
    Member,
    ToDo,
    entries,
    fold,
    read,
)

#: For asking how a guest is, each by itself.
_LOOK_S = 20.0
#: Guests that are held though libvirt does not call them paused.
_HELD = (Verdict.LOST, Verdict.SAVED, Verdict.AWAY)
#: A guest that runs is among them: the pause that the run asked for last may be on its way.
_TO_RESUME = (Verdict.RESUME, Verdict.AWAIT)
#: What is done about a guest that runs in the end.
_RUNNING = (Action.RESUMED, Action.RUNS)
_ACTIONS = {
    Verdict.RESUME: Action.RESUMED,
    Verdict.AWAIT: Action.RUNS,
    Verdict.RUNS: Action.RUNS,
    Verdict.BOOTED: Action.LEFT_ALONE,
    Verdict.ENDED: Action.ENDED,
    Verdict.SAVED: Action.SAVED,
    Verdict.LOST: Action.LOST,
    Verdict.THEIRS: Action.LEFT_ALONE,
    Verdict.AWAY: Action.AWAY,
    Verdict.OTHER: Action.LEFT_ALONE,
}

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
    return _compare(folder, history, hypervisor, clock)[0]


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
    history = fold(journal.read())
    found, judged = _compare(folder, history, hypervisor, clock)
    for uuid, (verdict, _) in judged.items():
        if history.guests[uuid].held and verdict in _NOTED:
            member = history.guests[uuid].member
            journal.note(_NOTED[verdict](member.name, member.uuid, "recover"))
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
    )

    def after(guest: GuestRecovery) -> GuestRecovery:
        error = answers[guest.member.name].error if guest.member.uuid in wanted else None
        if error is None:
            return guest
        custody = history.guests[guest.member.uuid]
        return _given_up(guest, error, custody, hypervisor, Deadline.after(_LOOK_S, clock))

    return replace(found, guests=tuple(after(guest) for guest in found.guests))


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
    except HarnessError:  # nobody saw it run, nor end
        sight = Sight(StateReading(GuestState.PAUSED, "unknown"))
    verdict, why = judge(custody, sight, booted_since=False)
    if verdict is Verdict.RESUME:
        hint = _what_helps(guest.member, hypervisor.uri, verdict, sight)
        return replace(guest, action=Action.STRANDED, why=str(error), paused=True, resume_hint=hint)
    return _recovery(custody, hypervisor.uri, verdict, why, sight)


def _compare(
    folder: RunFolder, history: History, hypervisor: Hypervisor, clock: Clock
) -> tuple[RunRecovery, dict[str, tuple[Verdict, Sight]]]:
    """Return what would be done, and by UUID why: what was seen of each guest that was seen."""
    booted = _booted_since(history)
    known = {u: one for u, one in history.guests.items() if one.custody is not Custody.REFUSED}
    look_until = Deadline.after(_LOOK_S, clock)
    looks = {uuid: partial(look, one, hypervisor, look_until) for uuid, one in known.items()}
    seen = fan_out(looks, look_until, what="looking at it")
    judged = {
        uuid: (*judge(known[uuid], answer.value, booted_since=booted), answer.value)
        for uuid, answer in seen.items()
        if answer.value is not None
    }
    guests = tuple(
        _recovery(one, hypervisor.uri, *judged[uuid])
        if uuid in judged
        else GuestRecovery(one.member, Action.UNSEEN, str(seen[uuid].error))
        for uuid, one in known.items()
    )
    unseen = next((answer.error for answer in seen.values() if answer.error is not None), None)
    if unseen is not None and not isinstance(unseen, HarnessError):
        unseen = InternalError(unseen)
    error = _incomplete(folder, history) or unseen
    found = RunRecovery(folder, guests, error, booted_since=booted)
    return found, {uuid: (verdict, sight) for uuid, (verdict, _, sight) in judged.items()}


def _recovery(
    custody: GuestCustody, uri: str, verdict: Verdict, why: str, sight: Sight
) -> GuestRecovery:
    paused = _is_paused(verdict, sight) and verdict is not Verdict.RESUME
    hint = _what_helps(custody.member, uri, verdict, sight) if paused else ""
    return GuestRecovery(custody.member, _ACTIONS[verdict], why, paused=paused, resume_hint=hint)


def _what_helps(member: Member, uri: str, verdict: Verdict, sight: Sight) -> str:
    """Return what a person does about a guest that is paused, as commands to paste."""
    if verdict is Verdict.AWAY:
        return "harness recover --uri URI, with that of the other host"
    beside = Beside(sight.process is not None, sight.restored, sight.monitor)
    return what_helps(member, uri, sight.reading, beside)


def _is_paused(verdict: Verdict, sight: Sight) -> bool:
    return sight.reading.state is GuestState.PAUSED or verdict in _HELD


def _booted_since(history: History) -> bool:
    """Return True if the guests' host was booted since the run.

    False also where the line that tells the boot is lost, and for a host that is not this machine:
    then libvirt's answer decides.
    """
    started = history.started
    remote = started is not None and bool(urlsplit(started.uri).netloc)
    return started is not None and not remote and started.boot_id != boot_id()


def _incomplete(folder: RunFolder, history: History) -> JournalError | None:
    """What a journal that is not understood in all its lines cannot say."""
    if not history.notices:
        return None
    uri = history.started.uri if history.started is not None else ""
    see = command("virsh", *(["-c", uri] if uri else []), "list", "--state-paused")
    return JournalError(
        f"{folder.path / FILE_NAME}: {'; '.join(history.notices)}; "
        "it may have paused more guests than are listed",
        hint=f"{see}; when none of them is of this run, remove the run folder",
    )


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
    if not recovery.stranded and recovery.error is None:
        actions = {guest.member.name: guest.action.value for guest in recovery.guests}
        try:
            journal.intend(entries.Recovered(actions))
        except JournalError as failure:
            return replace(recovery, error=failure)
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
