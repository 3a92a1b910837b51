"""What a dead run left behind is finished: guests resumed, clocks corrected, its record completed.

A run is dead when its process is gone (nobody holds its journal's lock) and its journal has no
end; one that had to leave guests paused has none either. Journal and actual state are compared
guest by guest; only what the journal says this run paused is resumed. Safe to run at any time, and
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.clock.arithmetic import judge_offset
from harness.core.errors import HarnessError, JournalError, PlanError
from harness.core.identity import boot_id
from harness.core.pasteable import command
from harness.core.records import Outcome
from harness.core.settings import Config
from harness.core.timebase import Clock, Deadline
from harness.guest.protocol import Connector
from harness.host.lifecycle import ENDED, GuestState
from harness.host.protocol import Hypervisor
from harness.maintenance.admission import Claims
from harness.maintenance.guest_clock import ClockOutcome, correct_clock, observe_clock
from harness.maintenance.pause.resume import resume_all
from harness.maintenance.recovery_record import Action, GuestRecovery, RunRecovery, completed
from harness.maintenance.resume_hint import resume_hint
from harness.maintenance.session import GuestSession, Login
from harness.results.folder import RunFolder
from harness.results.journal import (
    FILE_NAME,
    Custody,
    History,
    Journal,
    Member,
    ToDo,
    entries,
    fold,
    read,
)

#: For asking whether a guest is really still paused.
_LOOK_S = 20.0
#: What is done about a guest that runs in the end.
_RUNNING = (Action.RESUMED, Action.RUNS)


def assess(folder: RunFolder, hypervisor: Hypervisor, deadline: Deadline) -> RunRecovery:
    """Compare journal and actual state; changes nothing. Raises JournalError, HypervisorError."""
    return _compare(folder, fold(read(folder.path / FILE_NAME)), hypervisor, deadline)


def _compare(
    folder: RunFolder, history: History, hypervisor: Hypervisor, deadline: Deadline
) -> RunRecovery:
    rebooted = _rebooted_since(history)
    guests = tuple(
        _assess(guest.member, guest.held, rebooted, hypervisor, deadline)
        for guest in history.guests.values()
        if guest.custody is not Custody.REFUSED
    )
    return RunRecovery(folder, guests, _incomplete(folder, history))


def _rebooted_since(history: History) -> bool:
    """False also where the line that tells the boot is lost: then libvirt's answer decides."""
    return history.started is not None and history.started.boot_id != boot_id()


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


def _assess(
    member: Member, ours: bool, rebooted: bool, hypervisor: Hypervisor, deadline: Deadline
) -> GuestRecovery:
    reading = hypervisor.state(member.uuid, deadline)
    if reading.state in ENDED:
        return GuestRecovery(member, Action.ENDED, f"is {reading}: nothing of it can be resumed")
    if rebooted:
        return GuestRecovery(member, Action.LEFT_ALONE, "the host was booted since, and so was it")
    if reading.state is GuestState.RUNNING:
        return GuestRecovery(
            member, Action.RUNS, "resumed by the run, its guardian or somebody else"
        )
    if reading.state is not GuestState.PAUSED:
        return GuestRecovery(member, Action.LEFT_ALONE, f"is {reading}, which is not our pause")
    if not ours:
        return GuestRecovery(
            member, Action.LEFT_ALONE, "our pause was over; somebody else paused it"
        )
    return GuestRecovery(member, Action.RESUMED, "was paused by this run")


def recover(
    folder: RunFolder,
    hypervisor: Hypervisor,
    connector: Connector,
    *,
    config: Config,
    deadline: Deadline,
) -> RunRecovery:
    """Finish one dead run. Raises JournalError if it is not dead, or cannot be read.

    A journal that is damaged, or of a newer version, is followed as far as it is understood; the
    run is then not marked as finished, and the result says why.
    """
    clock = deadline.clock
    with Journal(folder.path, folder.run_id, clock) as journal:
        history = fold(journal.read())
        found = _compare(folder, history, hypervisor, deadline)
        guests = _resume(
            found.guests, history.held, hypervisor, journal, config.resume_patience_s, clock
        )
        wanted = {u for u, g in history.guests.items() if ToDo.CORRECT_CLOCK in g.todo}
        claims = Claims()
        corrected = [
            _correct(guest, config, hypervisor, connector, claims, deadline)
            if guest.action in _RUNNING and guest.member.uuid in wanted
            else guest
            for guest in guests
        ]
        recovery = replace(found, guests=tuple(_known_apart(one, claims) for one in corrected))
        folder.write_record(completed(folder.record(), recovery, fold(journal.read()), clock))
        if not recovery.stranded and recovery.error is None:
            actions = {guest.member.name: guest.action.value for guest in recovery.guests}
            journal.intend(entries.Recovered(actions))
    return recovery


def _resume(
    guests: Sequence[GuestRecovery],
    ours: Sequence[Member],
    hypervisor: Hypervisor,
    journal: Journal,
    patience_s: float,
    clock: Clock,
) -> tuple[GuestRecovery, ...]:
    """Resume those that are ours, and return all with what became of them.

    One that runs is among them: the pause that the run asked for last may be on its way.
    """
    mine = [guest.member for guest in guests if guest.action in _RUNNING and guest.member in ours]
    if not mine:
        return tuple(guests)
    answers = resume_all(
        mine,
        hypervisor,
        journal,
        by="recover",
        since_ns=clock.monotonic_ns(),
        deadline=Deadline.after(patience_s, clock),
    )

    def after(guest: GuestRecovery) -> GuestRecovery:
        answer = answers.get(guest.member.name)
        if answer is None or answer.error is None:
            return guest
        ended = _has_ended(guest.member, hypervisor, Deadline.after(_LOOK_S, clock))
        if ended:
            return replace(guest, action=Action.ENDED, why=str(answer.error))
        hint = resume_hint(guest.member, hypervisor, Deadline.after(_LOOK_S, clock))
        return replace(guest, action=Action.STRANDED, why=str(answer.error), resume_hint=hint)

    return tuple(after(guest) for guest in guests)


def _has_ended(member: Member, hypervisor: Hypervisor, deadline: Deadline) -> bool:
    """False also where libvirt says nothing: nobody saw it end, nor run."""
    try:
        return hypervisor.state(member.uuid, deadline).state in ENDED
    except HarnessError:
        return False


def _correct(
    guest: GuestRecovery,
    config: Config,
    hypervisor: Hypervisor,
    connector: Connector,
    claims: Claims,
    deadline: Deadline,
) -> GuestRecovery:
    """Correct the clock of a guest that runs, and return what became of it."""
    accelerator = guest.accelerator
    try:
        info = hypervisor.find(guest.member.uuid, deadline)
        accelerator = info.accelerator
        section = config.for_guest(info.name, info.uuid)
        login = Login(info, section, config.ssh, hypervisor, connector)
        session = GuestSession.open(login, config.clock, deadline)
    except HarnessError as error:
        return _not_corrected(replace(guest, accelerator=accelerator), error)
    try:
        claims.claim(session.found)
        measured = correct_clock(session, deadline.clock.monotonic_ns(), deadline)
        clock = observe_clock(measured, session, deadline)
    except PlanError as error:
        return _not_corrected(replace(guest, accelerator=accelerator), error)
    finally:
        session.close()
    return replace(
        guest,
        accelerator=accelerator,
        clock=clock,
        problem=clock.problem or clock.doubt,
        clock_verdict=_judge(clock, session.tolerance_s),
    )


def _not_corrected(guest: GuestRecovery, error: HarnessError) -> GuestRecovery:
    return replace(guest, problem=str(error), clock_verdict=Outcome.ERROR)


def _known_apart(guest: GuestRecovery, claims: Claims) -> GuestRecovery:
    """The first of two that are not known apart was let through: its clock may be the other's."""
    refused = claims.refused.get(guest.member.name)
    return guest if refused is None else _not_corrected(guest, refused)


def _judge(clock: ClockOutcome, tolerance_s: float) -> Outcome:
    end = clock.at_end
    if end is None or clock.doubt:
        return Outcome.ERROR
    return judge_offset(end.offset_s, end.uncertainty_s, tolerance_s)
