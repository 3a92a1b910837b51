"""What a dead run's journal says of each guest, and what is so now: what is to be done, and why."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

from harness.core.errors import GuestNotFound, HarnessError, InternalError, JournalError
from harness.core.fanout import fan_out
from harness.core.identity import boot_id
from harness.core.pasteable import command
from harness.core.timebase import Clock, Deadline
from harness.host.lifecycle import GuestState
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.absence import Fate
from harness.maintenance.recovery.record import Action, GuestRecovery, RunRecovery
from harness.maintenance.recovery.whose_pause import Sight, Verdict, judge, look
from harness.maintenance.resume_hint import Beside, what_helps
from harness.results.folder import RunFolder
from harness.results.journal import FILE_NAME, Custody, GuestCustody, History, Member

#: For asking how a guest is, each by itself.
LOOK_S = 20.0
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
#: Guests that are held though libvirt does not call them paused.
_HELD = (Verdict.LOST, Verdict.SAVED, Verdict.AWAY)


def compare(
    folder: RunFolder, history: History, hypervisor: Hypervisor, clock: Clock
) -> tuple[RunRecovery, dict[str, tuple[Verdict, Sight]]]:
    """Return what would be done, and by UUID why: what was seen of each guest that was seen."""
    booted = _booted_since(history)
    known = {u: one for u, one in history.guests.items() if one.custody is not Custody.REFUSED}
    look_until = Deadline.after(LOOK_S, clock)
    paused_on = history.started.uri if history.started is not None else ""
    looks = {
        uuid: partial(_look, one, paused_on, hypervisor, look_until) for uuid, one in known.items()
    }
    seen = fan_out(looks, look_until, what="looking at it")
    judged = {
        uuid: (*judge(known[uuid], answer.value, booted_since=booted), answer.value)
        for uuid, answer in seen.items()
        if answer.value is not None
    }
    guests = tuple(
        recovery_of(one, hypervisor.uri, *judged[uuid])
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


def _look(
    custody: GuestCustody, paused_on: str, hypervisor: Hypervisor, deadline: Deadline
) -> Sight:
    """Return what can be seen of a guest; another libvirt than the run's does not see it end."""
    sight = look(custody, hypervisor, deadline)
    gone = sight.reading.state is GuestState.GONE and sight.fate is Fate.ENDED
    if gone and paused_on not in ("", hypervisor.uri):
        raise GuestNotFound(
            f"{hypervisor.uri} does not know it; the run paused it on {paused_on}",
            operation="looking at",
            guest=custody.member.name,
            hint="harness recover, without another --uri",
        )
    return sight


def recovery_of(
    custody: GuestCustody, uri: str, verdict: Verdict, why: str, sight: Sight
) -> GuestRecovery:
    """Return what is done about a guest of which that was seen, and judged."""
    paused = _is_paused(verdict, sight) and verdict is not Verdict.RESUME
    hint = what_is_to_do(custody.member, uri, verdict, sight) if paused else ""
    return GuestRecovery(custody.member, _ACTIONS[verdict], why, paused=paused, resume_hint=hint)


def what_is_to_do(member: Member, uri: str, verdict: Verdict, sight: Sight) -> str:
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
    return started is not None and not remote and history.boot_id != boot_id()


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
