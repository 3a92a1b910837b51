"""Whose pause is it? What a dead run's journal says of a guest, held against what can be seen.

Pure but for :func:`look`. A guest is resumed only if nothing speaks against its being paused by the
run: it lives in the process that was paused, or was restored from the disk to which that one was
saved, and its vCPUs have stood still since. Everything else is a person's decision, and is
reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.timebase import NS_PER_S, Deadline
from harness.host.lifecycle import ENDED, GuestState, StateReading
from harness.host.parking import Berth
from harness.host.protocol import GuestInfo, Hypervisor, ProcessIdentity
from harness.maintenance.pause.absence import Fate, fate_of
from harness.maintenance.pause.life import process_of, see_life
from harness.maintenance.pause.parkable import parking_of
from harness.maintenance.pause.takeover import RAN_NS
from harness.results.journal import Custody, GuestCustody

#: Where the journal does not say for how long the run can have had a pause under way.
_GUARDED_S = 60.0
#: What starting QEMU may cost a vCPU's thread: 0.4 to 0.8 ms were measured under TCG.
_FRESH_NS = 10_000_000
#: A slow host's costs more, and the main thread's as much more; a vCPU's was at most 1/50 of that.
_SHARE_OF_MAIN = 20
#: For no host is it more: the main thread goes on working when the guest runs.
_FRESH_AT_MOST_NS = 200_000_000

#: The run had begun to park a guest of that custody, and it did not run since.
_PARKED = (
    Custody.PARKING,
    Custody.PARKED,
    Custody.HANDED_OVER,
    Custody.UNPARKING,
    Custody.UNPARKED,
)


class Verdict(StrEnum):
    """What is to be done about a guest of a dead run."""

    RESUME = "resume"
    AWAIT = "await"
    """It runs, but a pause that the run asked for last may be on its way."""
    RUNS = "runs"
    BOOTED = "booted"
    """It runs, and its memory is not the one that was paused: nothing is left to do."""
    ENDED = "ended"
    SAVED = "saved"
    """It is on disk, as the run paused it."""
    LOST = "lost"
    """libvirt does not know it any more, and its process lives, paused."""
    THEIRS = "theirs"
    """It is paused, and not by the run."""
    AWAY = "away"
    """It lives on another host, which was not looked at."""
    OTHER = "other"
    """It is neither paused nor running, for reasons of its own."""


@dataclass(frozen=True)
class Sight:
    """What can be seen of a guest at one moment."""

    reading: StateReading
    fate: Fate = Fate.THERE
    process: ProcessIdentity | None = None
    """Its QEMU process now; of a guest that libvirt has lost, the one that was paused."""
    vcpu_ns: int | None = None
    """CPU time of the vCPU threads of that process."""
    main_thread_ns: int | None = None
    """CPU time of the thread that process started in: how slow a start is on this host."""
    restored: bool = False
    """That process took over a guest that had been saved to disk."""
    info: GuestInfo | None = None
    monitor: Path | None = None
    """Of a guest that libvirt has lost: where its QEMU can be told to go on."""
    berth: Berth | None = None
    """Of a guest that the run held and may have parked: where it is."""

    @property
    def start_may_cost_ns(self) -> int:
        """Return how much CPU time its vCPUs may have used without ever having run the guest."""
        slow_ns = min((self.main_thread_ns or 0) // _SHARE_OF_MAIN, _FRESH_AT_MOST_NS)
        return max(_FRESH_NS, slow_ns) * self.vcpus

    @property
    def vcpus(self) -> int:
        """How many vCPUs it has."""
        return self.info.vcpus if self.info is not None else 1


def look(custody: GuestCustody, hypervisor: Hypervisor, deadline: Deadline) -> Sight:
    """Return what can be seen of a guest. Raises HypervisorError or DeadlineExpired."""
    sight = _look(custody, hypervisor, deadline)
    if custody.parkable is None or not custody.held:
        return sight
    berth = hypervisor.parking.berth(parking_of(custody.parkable), deadline)
    return replace(sight, berth=berth)


def _look(custody: GuestCustody, hypervisor: Hypervisor, deadline: Deadline) -> Sight:
    uuid, known = custody.member.uuid, process_of(custody)
    reading = hypervisor.state(uuid, deadline)
    if reading.state in ENDED:
        fate = fate_of(uuid, known, hypervisor, deadline)
        if fate is not Fate.LOST or known is None:
            return Sight(reading, fate)
        vcpu_ns, monitor = hypervisor.vcpu_time_ns(known), hypervisor.monitor(known)
        return Sight(reading, fate, known, vcpu_ns, monitor=monitor)
    seen = see_life(uuid, hypervisor, deadline)
    return Sight(
        reading,
        process=seen.process,
        vcpu_ns=seen.vcpu_ns,
        main_thread_ns=hypervisor.main_thread_time_ns(seen.process) if seen.process else None,
        restored=seen.process is not None and hypervisor.restored(seen.process),
        info=_described(uuid, hypervisor, deadline),
    )


def _described(uuid: str, hypervisor: Hypervisor, deadline: Deadline) -> GuestInfo | None:
    try:
        return hypervisor.find(uuid, deadline)
    except HarnessError:
        return None


def judge(custody: GuestCustody, sight: Sight, *, booted_since: bool) -> tuple[Verdict, str]:
    """Return what is to be done about a guest, and why, in words.

    ``booted_since``: the host was booted since the journal was written, so that no process of it
    can live.
    """
    # After a boot no guest is parked any more, and an inode may be another guest's.
    if sight.berth is not None and not booted_since:
        parked = _judge_parked(custody, sight, sight.berth)
        if parked is not None:
            return parked
    state = sight.reading.state
    if state in ENDED:
        return _judge_absent(custody, sight, booted_since=booted_since)
    if state is GuestState.RUNNING:
        return _judge_running(custody, sight, booted_since=booted_since)
    if state is not GuestState.PAUSED:
        return Verdict.OTHER, f"is {sight.reading}, which is no pause of a run"
    return _judge_paused(custody, sight, booted_since=booted_since)


def _judge_parked(custody: GuestCustody, sight: Sight, berth: Berth) -> tuple[Verdict, str] | None:
    """Of a guest that the run held and may have parked; None: it never did, as far as is seen."""
    state = sight.reading.state
    if berth is Berth.PARKED:
        return Verdict.RESUME, "was parked by this run: its RAM and its state are in their files"
    if berth is Berth.LOST:
        why = f"is {sight.reading}: what this run kept of its RAM is gone"
        return (Verdict.ENDED, why) if state in ENDED else None
    if state is GuestState.RUNNING:
        if berth is Berth.AFLOAT:
            return Verdict.AWAIT, "runs with its own RAM; what was kept for it is removed"
        return Verdict.BOOTED, "was started by another program, with other RAM than its own"
    if berth is Berth.ADRIFT:
        return Verdict.RESUME, "was parked by this run, and a QEMU was being started for it"
    if sight.process is None or sight.process == process_of(custody):
        return None
    if sight.vcpu_ns is not None and sight.vcpu_ns > sight.start_may_cost_ns:
        return Verdict.THEIRS, "is paused by another program: it has run since it was parked"
    return Verdict.RESUME, "was parked by this run, and has a QEMU again, with its own RAM"


def _judge_absent(
    custody: GuestCustody, sight: Sight, *, booted_since: bool
) -> tuple[Verdict, str]:
    if booted_since and custody.custody in _PARKED:
        return Verdict.ENDED, (
            f"is {sight.reading}: the host was booted while it was parked, so its RAM is lost; its "
            "saved state is of no use, and it is left to boot it"
        )
    if sight.fate is Fate.SAVED and custody.held:
        return Verdict.SAVED, "was saved to disk while the run held it, and comes back paused"
    if sight.fate is Fate.AWAY and custody.held:
        return Verdict.AWAY, "was migrated to another host while the run held it, paused as it was"
    if sight.fate is not Fate.LOST or booted_since or sight.process is None:
        return Verdict.ENDED, f"is {sight.reading}: nothing of it can be resumed"
    lost = f"libvirt does not know it any more, but its QEMU process {sight.process.pid} lives"
    if custody.custody is Custody.ENDED or custody.held:
        ran_s = _ran_s(custody, sight)
        if ran_s is None:
            return Verdict.LOST, f"{lost}, paused"
        return Verdict.OTHER, f"{lost}, and has run since"
    return Verdict.OTHER, lost


def _judge_running(
    custody: GuestCustody, sight: Sight, *, booted_since: bool
) -> tuple[Verdict, str]:
    if booted_since and not sight.restored:
        return Verdict.BOOTED, "runs, started since the host was booted"
    if custody.custody is Custody.RESUMED:
        by = " and ".join(sorted(custody.resumed_ns)) or "the run"
        return Verdict.RUNS, f"runs; resumed by {by}, as the journal says"
    on_its_way = custody.custody is Custody.PAUSING and not booted_since
    return (
        Verdict.AWAIT if on_its_way else Verdict.RUNS
    ), "runs; the journal does not say who resumed it"


def _judge_paused(
    custody: GuestCustody, sight: Sight, *, booted_since: bool
) -> tuple[Verdict, str]:
    if not custody.held:
        return Verdict.THEIRS, f"is paused by another program: {_LET_GO[custody.custody]}"
    known = process_of(custody)
    if booted_since or (known and sight.process and sight.process != known):
        return _judge_another_life(sight, booted_since=booted_since)
    ran_s = _ran_s(custody, sight)
    if ran_s is not None:
        return Verdict.THEIRS, (
            f"is paused by another program: its vCPUs have run for {ran_s:.3f} s since the run "
            "paused it, so it was resumed, and paused again"
        )
    return Verdict.RESUME, "was paused by this run"


#: Why a guest of that custody is not the run's any more.
_LET_GO = {
    Custody.REFUSED: "this run never paused it",
    Custody.RESUMED: "the run's pause of it was over",
    Custody.TAKEN_OVER: "another one resumed it during the run's pause",
    Custody.ENDED: "it had ended during the run's pause, and was started again",
}


def _judge_another_life(sight: Sight, *, booted_since: bool) -> tuple[Verdict, str]:
    """Of a held guest that is paused in another process than the one that was paused."""
    since = "the host was booted" if booted_since else "the run paused it"
    if sight.process is None:
        return Verdict.THEIRS, (
            f"is paused, started since {since}; its process cannot be seen: its owner is unknown"
        )
    if not sight.restored:
        return Verdict.THEIRS, f"is paused by another program, which started it since {since}"
    if sight.vcpu_ns is None or sight.vcpu_ns > sight.start_may_cost_ns:
        return Verdict.THEIRS, (
            "is paused by another program: it was saved to disk, and has run since it was restored"
        )
    return Verdict.RESUME, (
        "was saved to disk while the run held it, restored paused, and has not run since"
    )


def _ran_s(custody: GuestCustody, sight: Sight) -> float | None:
    """Return how long its vCPUs have run since our pause; None: as far as can be seen, not at all.

    Without the line ``paused`` only the time before the pause is known: it ran on until then, and
    the run can have had a pause under way no longer than until its guardian's limit.
    """
    life = custody.life
    if life is None or life.vcpu_ns is None or sight.vcpu_ns is None:
        return None
    allowed_ns = RAN_NS
    if custody.pause is None or custody.pause.vcpu_ns is None:
        guarded_s = _GUARDED_S if custody.guarded_s is None else custody.guarded_s
        allowed_ns += round(guarded_s * NS_PER_S) * sight.vcpus
    used_ns = sight.vcpu_ns - life.vcpu_ns
    return used_ns / NS_PER_S if used_ns > allowed_ns else None
