"""What a run writes down: the ``run.json`` contract, frozen, typed, versioned.

Other programs read ``run.json``; field names are fixed: add freely, rename never. Units are in
the names. Offsets are guest − host in seconds: negative means the guest's clock is slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Outcome(StrEnum):
    """A verdict. Not an exception: a broken promise is a result."""

    PASS = "pass"
    FAIL = "fail"  # a promise was broken: measured against allowed
    ERROR = "error"  # we could not judge
    SKIP = "skip"  # not asked, or nothing to judge

    @classmethod
    def worst(cls, outcomes: Iterable[Outcome]) -> Outcome:
        """The worst of several: ERROR > FAIL > PASS > SKIP. Nothing at all is SKIP."""
        return max(outcomes, key=_SEVERITY.__getitem__, default=cls.SKIP)


_SEVERITY = {Outcome.SKIP: 0, Outcome.PASS: 1, Outcome.FAIL: 2, Outcome.ERROR: 3}

#: What the process returns for a run's worst outcome. A run that tested nothing is not a pass.
EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.ERROR: 3, Outcome.SKIP: 3}


class Record(BaseModel):
    """Base of everything that is written down."""

    # Built when first used: a plan, or its refusal, does not wait for that.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ClockReading(Record):
    """How far a guest's CLOCK_REALTIME was from the host's, and how sure that is."""

    offset_s: float
    """guest − host, seconds; negative: the guest is slow."""
    uncertainty_s: float
    """The true offset lies within ± this many seconds; half of the best round trip."""
    monotonic_s: float | None = None
    """guest CLOCK_MONOTONIC − host CLOCK_MONOTONIC, seconds; only its changes mean something."""
    monotonic_uncertainty_s: float | None = None
    boottime_minus_monotonic_s: float | None = None
    """guest CLOCK_BOOTTIME − CLOCK_MONOTONIC, seconds: how long it was suspended by itself."""
    samples: int = 1
    """How many samples the best was chosen from."""
    host_ahead_s: float | None = None
    """host CLOCK_REALTIME − host CLOCK_MONOTONIC, seconds; changes when the host's clock is set."""


class Jump(Record):
    """A clock that moved between two readings by more than their uncertainty."""

    at_s: float
    """After the beginning of the watch."""
    by_s: float
    """Forwards if positive."""


class ProbeRecord(Record):
    """What a program in the guest saw of the guest's own clocks, looking every 50 ms."""

    looks: int
    realtime_went_back: int
    worst_back_s: float
    jumps: int
    last_jump_s: float
    monotonic_went_back: int
    longest_gap_s: float
    """The longest time between two looks, on CLOCK_MONOTONIC: a jump of it, or a busy guest."""


class WatchRecord(Record):
    """A clock that was watched for a while after it had been corrected."""

    outcome: Outcome
    duration_s: float
    readings: int
    first_offset_s: float | None = None
    last_offset_s: float | None = None
    worst_offset_s: float | None = None
    drift_ppm: float | None = None
    """The rate at which the clock still runs away from the host's; positive: it gains."""
    drift_uncertainty_ppm: float | None = None
    jumps: tuple[Jump, ...] = ()
    monotonic_jumps: tuple[Jump, ...] = ()
    undone: bool = False
    """The clock was moved out of tolerance again: a time daemon perhaps."""
    witness: ProbeRecord | None = None
    """None: the guest's interpreter offers none, so that only the readings tell."""
    detail: str = ""


class ClockRecord(Record):
    """One guest's clock through one maintenance."""

    method: str | None = None
    """The method of correction that was used; None: nothing was corrected."""
    expected_lag_s: float | None = None
    """The offset the pause should have caused (negative: slow), derived from the pause window."""
    before: ClockReading | None = None
    after_resume: ClockReading | None = None
    after_correction: ClockReading | None = None
    target_s: float = 0.0
    """The offset the clock should have in the end; not 0 where it was put back to what it was."""
    methods: tuple[str, ...] = ()
    """The methods of correction in the order in which they would be tried."""
    attempts: tuple[str, ...] = ()
    """Every attempt, and what came of it."""
    doubt: str | None = None
    """Why the clock, right as it was, may not have stayed so."""
    host_synchronised: bool | None = None
    """Whether the host's own clock, the reference, is; None: it does not say."""
    rtc_offset_s: float | None = None
    """RTC − host CLOCK_REALTIME in the end, known to ± half a second; None: not readable."""
    rtc_expected_s: float | None = None
    """What that should be by ``<clock>`` in the guest's description: 0 for an RTC in UTC, the time
    zone's offset for one in local time; None: it cannot be known."""
    guest_agent: ClockReading | None = None
    """The clock in the end as the guest agent tells it; None: there is none."""
    guest_agent_disagreement_s: float | None = None
    """By how much the guest agent's offset is another than ours."""
    guest_agent_agrees: bool | None = None
    """Whether the two intervals overlap."""
    watch: WatchRecord | None = None
    monotonic_deficit_s: float | None = None
    """How much CLOCK_MONOTONIC fell behind the host's over the window: proof of the freeze."""


class CheckRecord(Record):
    """One promise, judged: measured against allowed."""

    name: str
    outcome: Outcome
    measured: float | str | None = None
    allowed: float | str | None = None
    unit: str | None = None
    detail: str = ""


class IdentityRecord(Record):
    """What binds the login to the libvirt guest that was paused."""

    bound_by: str | None = None
    """The evidence that decided: ``machine-uuid``, ``mac`` or ``guest-agent`` for a login by SSH,
    ``agent-channel`` where there was none; None: none did."""
    detail: str = ""
    """The evidence, or why there is none."""
    machine_uuid: str | None = None
    """As the guest's firmware tells it; None: not readable by this login."""
    boot_id: str | None = None
    host_key: str | None = None
    """``SHA256:…`` of the host key that was shown."""


class GuestRecord(Record):
    """One guest's part in the run."""

    name: str
    uuid: str
    outcome: Outcome
    accelerator: str
    clocksource: str | None = None
    pause_window_s: float | None = None
    """This guest's outer bound: its pause call began → its resume call returned."""
    pause_inner_s: float | None = None
    """libvirt's SUSPENDED event → RESUMED event, as this host received them."""
    stale_clock_window_s: float | None = None
    """Resume returned → correction verified."""
    clock: ClockRecord = Field(default_factory=ClockRecord)
    checks: tuple[CheckRecord, ...] = ()
    facts: dict[str, str] = Field(default_factory=dict)
    """What kind of guest this is: kernel, interpreter, RTC track, address, …"""
    identity: IdentityRecord | None = None
    """None: the record is of a version that did not ask, or there was no login."""
    still_paused: bool = False
    resume_hint: str = ""
    """What a person does about a guest that is still paused: a command to paste."""
    problems: tuple[str, ...] = ()


class PollRecord(Record):
    """The first time that a guest was shown one incarnation of its events."""

    guest: str
    incarnation: int
    first_at: datetime


class NoticeRecord(Record):
    """How the guests of an update domain, and their sets, were notified of its pause."""

    event_ids: tuple[str, ...]
    announced_at: datetime | None = None
    not_before: datetime | None = None
    approved_at: datetime | None = None
    """When the last of the events was approved; None: not all were, it was time."""
    approved_by: tuple[str, ...] = ()
    """Guests, or people at the command line."""
    started_at: datetime | None = None
    removed_at: datetime | None = None
    cancelled: bool = False
    polls: tuple[PollRecord, ...] = ()
    """Who knew what when."""


class PartRecord(Record):
    """One of several updates of a pause window."""

    kind: str
    command: tuple[str, ...] = ()
    progress: str = "waiting"
    """``waiting`` (not begun), ``begun`` (and not done), ``applied``, ``rolled back``."""
    duration_s: float | None = None
    returncode: int | None = None
    detail: str = ""


class UpdateDomainRecord(Record):
    """One update domain's part in the run."""

    name: str
    guests: tuple[str, ...]
    outcome: Outcome
    pause_window_s: float | None = None
    update_s: float | None = None
    overhead_s: float | None = None
    """pause window − update duration: what the harness itself cost."""
    pausing_s: float | None = None
    """Of the overhead: the first call that pauses → all guests are paused."""
    resuming_s: float | None = None
    """Of the overhead: the first call that resumes → all guests run."""
    host_suspended_s: float | None = None
    """For how long the host itself was suspended, from the baselines until the guests were looked
    at again; no part of ``pause_window_s``, which is of CLOCK_MONOTONIC."""
    update_returncode: int | None = None
    update_detail: str = ""
    updates: tuple[PartRecord, ...] = ()
    """Each update of the window, in order, where there are several."""
    """What the update says that it did; empty if it was not applied."""
    notice: NoticeRecord | None = None
    """None: the guests were not told."""
    problems: tuple[str, ...] = ()


class UpdateRecord(Record):
    """What was applied to the host."""

    kind: str
    command: tuple[str, ...] = ()
    returncode: int | None = None
    duration_s: float | None = None
    """All domains' updates together."""
    scope: str = "host"


class HostRecord(Record):
    """The box it ran on."""

    hostname: str
    kernel: str
    libvirt: str
    hypervisor: str
    cpu: str
    accelerator: str
    """``kvm`` or ``tcg`` (software emulation): what the guests of this run really used."""


class SilenceRecord(Record):
    """For how long one address did not answer another machine."""

    name: str
    """The host, or the guest, that has the address there."""
    address: str
    silent_s: float
    """The longest time without an answer to ICMP, by that machine's monotonic clock."""
    uncertainty_s: float
    """Between two questions."""
    answers: bool
    """Whether it answered in the end."""


class OutsideRecord(Record):
    """What was seen from another machine that had started the run, and has this record."""

    uri: str
    """The host, as that machine names it."""
    rollout: str
    """The ID by which the host has the run."""
    unreachable_s: float | None = None
    """The last line that came from the host → the next login there, that of the longest gap; None:
    the connection never broke."""
    host: SilenceRecord | None = None
    """None: the host could not be watched."""
    guests: tuple[SilenceRecord, ...] = ()
    """Those guests that could be watched."""
    notes: tuple[str, ...] = ()
    """Who was not watched, and why."""


class RunRecord(Record):
    """The whole run: ``run.json``."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Outcome
    exit_code: int
    budget_s: float
    host: HostRecord
    update: UpdateRecord
    update_domains: tuple[UpdateDomainRecord, ...] = ()
    guests: tuple[GuestRecord, ...] = ()
    harness_version: str = ""
    updates: tuple[UpdateRecord, ...] = ()
    """Every update of the run, in order; ``update`` is what they are together."""
    follows: str | None = None
    """The run of the window before, where the updates of a configuration take several."""
    label: str = "run"
    """How it came about: ``run``, ``nightly``, ``warm-up``, ``experiment``, ``pytest``."""
    rollout: str | None = None
    """The rollout that it was this host's part of."""
    tolerance_s: float | None = None
    outside: OutsideRecord | None = None
    """None: the run was not started from another machine, or this is the host's own record."""
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
