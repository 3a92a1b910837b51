"""What can be configured: the sections of ``harness.toml``, with their defaults and their limits.

Every key is a field here, and its docstring what it means; :mod:`harness.core.config` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.core.durations import parse, parse_hours
from harness.core.nearest import nearest

#: In the order in which they are tried; one that does not fit a guest is passed over.
MethodName = Literal[
    "slew",
    "chronyd",
    "timesyncd",
    "ntpd",
    "windows",
    "relative-step",
    "ptp-kvm",
    "date-at-second",
    "guest-agent",
]


DEFAULT_METHODS: tuple[MethodName, ...] = get_args(MethodName)

#: In the order in which people read them. Names, not the checks: configuration imports no check.
CheckName = Literal[
    "pause-window",
    "identity",
    "downtime",
    "clock",
    "watch",
    "lag",
    "frozen",
    "vcpus",
    "same-boot",
    "same-process",
    "libvirt-events",
    "qemu-version",
    "ram-inode",
    "host-kernel",
    "host-boot",
    "host-clock",
    "ram",
    "canary",
    "processes",
    "connections",
    "mounts",
    "tcp-session",
    "disk",
    "timers",
    "kernel-log",
]
CHECK_NAMES: tuple[CheckName, ...] = get_args(CheckName)


class Scope(StrEnum):
    """Which guests must be paused together for an update."""

    HOST = "host"  # all guests of the host
    GUEST = "guest"  # each guest can be an update domain of its own


#: Where guests look for Scheduled Events.
METADATA_ADDRESS = "169.254.169.254"


#: Longer than any maintenance; waiting longer than some 290 years would be an OverflowError.
LONGEST_S = 1e7
Positive = Annotated[float, Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]


def _seconds(value: Any) -> Any:
    return parse(value) if isinstance(value, str) else value


#: Seconds as a number, or text with a unit: ``5ms``, ``15m``. Every key in seconds is one.
Seconds = BeforeValidator(_seconds)
Duration = Annotated[float, Seconds, Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]
DurationOrZero = Annotated[float, Seconds, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)]
#: No control characters: names go into the environment of updates and onto terminals.
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Section(BaseModel):
    # Built with the whole, when it is first used, and not once more for each section: an instance
    # that is a default is made without being validated, which would build its section's own.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class UpdateSection(_Section):
    """``[update]``: what is applied to the host while its guests are paused.

    These keys are for every kind; each kind's own are beside it in :mod:`harness.updates`. A
    reader that is not handed the kinds, such as one of an old run's folder, keeps theirs unread.
    """

    model_config = ConfigDict(extra="allow")

    kind: Name = "stand-in"
    """Which kind of update it is."""
    expected_s: Duration | None = None
    """How long it should take; by default as long as earlier ones took, or as the kind knows."""
    scope: Scope | None = None
    """Which guests are paused for it together; by default as the kind is."""
    preserves_memory: bool = True
    """Whether guests' memory outlasts it; if not, it is refused."""


InterpreterName = Literal["python3", "perl", "sh"]


class ClockSection(_Section):
    """``[clock]``: how well a guest's clock must be right, and what may be done about it."""

    correct: bool = True
    """Whether clocks are corrected; if not, they are measured and judged only."""
    tolerance_s: Duration | None = None
    """Allowed |offset|; by default what the guest's interpreter can keep."""
    allow_backward: bool = False
    """Whether a fast clock may be set back."""
    ceiling_s: Duration = 86_400.0
    """A larger offset is not corrected: a person should look first."""
    lag_tolerance_s: Duration = 0.25
    """How far the measured lag may be from the pause before we doubt the measurement."""
    samples: Annotated[int, Field(ge=1, le=1000)] = 8
    """Samples a reading; the one with the quickest answer counts."""
    interpreters: Annotated[tuple[InterpreterName, ...], Field(min_length=1)] = get_args(
        InterpreterName
    )
    """What the clock agent may run in, in the order in which they are tried."""
    methods: Annotated[tuple[MethodName, ...], Field(min_length=1)] = DEFAULT_METHODS
    """Ways to correct a clock, in the order in which they are tried."""
    slew_below_s: Annotated[float, Seconds, Field(ge=0, le=0.5)] = 0.050
    """An offset of at most this is slewed where the guest can be; 0: always stepped."""
    watch_s: DurationOrZero = 0.0
    """How long each clock is watched after its correction."""
    restore_offset: bool = False
    """Put a clock back to the offset it had before the pause, not to the host's clock."""


class SshSection(_Section):
    """``[ssh]``, or one guest's own ``ssh``; what is not set comes from ``~/.ssh/config``."""

    user: str | None = None
    """User to log in as: root, or one who may use sudo."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of the guest's SSH daemon."""
    identity_file: Path | None = None
    """Private key to log in with; relative to this file."""
    known_hosts: Path | None = None
    """File of host keys, asked besides the user's; relative to this file."""
    proxy_jump: str | None = None
    """Hosts to go through, as OpenSSH's ProxyJump."""
    host_key: str | None = None
    """``SHA256:…`` fingerprint that the guest's host key must have."""
    sudo: bool = False
    """Set the clock by ``sudo -n``, where the user is not root."""
    connect_timeout_s: Duration = 15.0
    """For connecting and logging in, each time."""


#: By which way harness gets into a guest: a login by SSH, or QEMU's guest agent through libvirt.
Access = Literal["ssh", "agent", "auto"]


class OwnCheckSection(_Section):
    """``[[checks.own]]``: an executable of the user's whose exit status is the outcome."""

    name: Name
    """What the check is called in the record."""
    command: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The executable and its arguments; no shell is involved."""
    guests: tuple[Name, ...] = ()
    """For these guests only; empty: for every guest."""
    scope: Literal["guest", "host"] = "guest"
    """Once for each guest, or once for each update domain."""
    stages: Annotated[tuple[Literal["before", "during", "after"], ...], Field(min_length=1)] = (
        "before",
        "during",
        "after",
    )
    """When it is run."""
    timeout_s: Duration = 10.0
    """For one stage."""


class ChecksSection(_Section):
    """``[checks]``: which promises are judged, and how they are watched."""

    enable: tuple[Name, ...] = ()
    """Only these; empty: all."""
    disable: tuple[Name, ...] = ()
    """Not these."""
    own: tuple[OwnCheckSection, ...] = ()
    """The user's own checks."""
    canary_bytes: Annotated[int, Field(ge=4096, le=64 << 20)] = 1 << 20
    """What the canary holds in the guest's memory, where there is python3."""
    disk_folder: Name = "/var/tmp"
    """Where in the guest the disk writer writes."""
    long_running_s: DurationOrZero = 60.0
    """From which age on a process of the guest has to survive."""

    @field_validator("enable", "disable")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in CHECK_NAMES:
                hint = nearest(name, CHECK_NAMES, "checks")
                raise ValueError(f"no such check: {name!r}; {hint}")
        return names

    @field_validator("own")
    @classmethod
    def _one_entry_a_name(cls, own: tuple[OwnCheckSection, ...]) -> tuple[OwnCheckSection, ...]:
        names = [one.name for one in own]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two checks are called {name!r}")
        return own

    def own_of(self, guest: str, together: tuple[str, ...]) -> tuple[OwnCheckSection, ...]:
        """The user's own checks that ``guest`` answers for.

        One of scope ``host`` is run once for ``together`` (an update domain), by its first guest.
        """

        def mine(own: OwnCheckSection) -> bool:
            if own.scope == "host":
                wanted = not own.guests or not set(own.guests).isdisjoint(together)
                return wanted and guest == together[0]
            return not own.guests or guest in own.guests

        return tuple(own for own in self.own if mine(own))

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names of the checks to judge, in the order in which people read them."""
        wanted = self.enable or CHECK_NAMES
        return tuple(name for name in CHECK_NAMES if name in wanted and name not in self.disable)


class GuestSection(_Section):
    """``[[guest]]``: one guest; ``name`` is its libvirt name or UUID."""

    name: Name
    """Its libvirt name or UUID."""
    address: str | None = None
    """Where SSH reaches it; by default what its guest agent, the DHCP leases or ARP say."""
    update_domain: Name | None = None
    """Guests of one update domain are paused together; by default what its metadata say."""
    availability_set: Name | None = None
    """Guests of one set serve the same purpose, and should not all pause at once."""
    opt_out: Name | None = None
    """Why this guest must not be paused; it is left out of every maintenance."""
    tolerance_s: Duration | None = None
    """Allowed |offset| of its clock, instead of that of ``[clock]``."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Of guests whose clocks wait to be corrected, the one with the highest comes first."""
    access: Access | None = None
    """None: as all guests."""
    ssh: SshSection = SshSection.model_construct()
    """How to log in to it, instead of ``[ssh]``."""


class AvailabilitySetSection(_Section):
    """``[[availability_set]]``: when the guests of one set may be paused; by default always."""

    name: Name
    """What guests call it."""
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    """The days on which a window begins; none given: all."""
    hours: Name = "00:00-24:00"
    """``22:00-04:00`` goes on into the next day."""
    time_zone: Name = "UTC"
    """Of days and hours, such as ``Europe/Berlin``."""
    spans_hosts: bool = False
    """Whether guests of the set are on other hosts too; then ``fleet.database`` is needed."""

    @field_validator("hours")
    @classmethod
    def _a_span(cls, hours: str) -> str:
        parse_hours(hours)
        return hours

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (LookupError, OSError, ValueError) as error:
            raise ValueError(f"no time zone {name!r}, such as Europe/Berlin") from error
        return name


def guest_section(sections: Iterable[GuestSection], name: str, uuid: str = "") -> GuestSection:
    """Return the guest's own section, found by name or UUID, or the defaults."""
    found = (one for one in sections if one.name == name or (uuid and one.name == uuid))
    return next(found, GuestSection(name=name))


def set_section(sections: Iterable[AvailabilitySetSection], name: str) -> AvailabilitySetSection:
    """Return the availability set's own section, or the defaults."""
    found = (one for one in sections if one.name == name)
    return next(found, AvailabilitySetSection(name=name))


class EventsSection(_Section):
    """``[events]``: how guests are notified beforehand (Scheduled Events)."""

    address: Name = "169.254.169.254"
    """Where guests are answered."""
    port: Annotated[int, Field(ge=0, le=65535)] = 80
    """Port there."""
    notice_s: DurationOrZero | None = None
    """From the announcement to the pause, unless approved earlier; None: guests get no notice."""
    time_scale: Positive = 1.0
    """Notices are this many times shorter, for labs."""
    store: Name | None = None
    """Database that hosts share their events in, for sets that span hosts: as
    ``fleet.database``, and may be the same; None: a file in the state folder."""


class OutsideSection(_Section):
    """``[outside]``: a run that another host carries out, because its kernel is replaced."""

    return_s: Duration = 900.0
    """How long that host may be silent before its run is given up here; it goes on there."""


class FleetSection(_Section):
    """``[fleet]``: what hosts share."""

    database: Name | None = None
    """``postgresql://USER@HOST/DATABASE``; ``sqlite:////FILE`` for the runs of one host. Each run
    leases there the availability sets whose guests it pauses; None: it does not."""
    host: Name | None = None
    """What this host is called there, as ``harness fleet plan`` has it; None: its host name."""


class NotifySection(_Section):
    """``[notify]``: who is notified how a run or a night ended, and at once of a stranded guest."""

    when: Literal["always", "trouble"] = "always"
    """``trouble``: only if the exit code is not 0."""
    command: tuple[Name, ...] = ()
    """An executable and its arguments; it has the notice as JSON on its standard input."""
    mail_to: tuple[Name, ...] = ()
    """Addresses that get a mail."""
    mail_from: Name | None = None
    """Sender of the mail; by default the local mail system's."""
    sendmail: Path = Path("/usr/sbin/sendmail")
    """The program that takes the mail: any with sendmail's ``-t -i``."""
    webhook: Name | None = None
    """URL that the notice is sent to as JSON."""
    webhook_secret_file: Path | None = None
    """File with the secret that signs it; readable for its owner only."""
    timeout_s: Duration = 10.0
    """For each of these ways, all tries included."""


class MetricsSection(_Section):
    """``[metrics]``: figures of runs for a collector, as OpenMetrics text."""

    file: Path | None = None
    """Written after each run, for node_exporter's textfile collector."""
    listen: Name | None = None
    """Where ``harness events serve`` answers ``/metrics``: loopback, such as ``127.0.0.1:9464``."""


class OtelSection(_Section):
    """``[otel]``: spans of each run for an OpenTelemetry collector, sent when the run is over."""

    endpoint: Name | None = None
    """OTLP over HTTP, such as ``http://127.0.0.1:4318``; None: no spans are sent."""
    timeout_s: Duration = 10.0
    """For all of it; what the collector has not taken by then is given up."""


#: The error of two keys that are wrong together: ``resume_reserve_s`` and ``budget_s``.
RESERVE_EATS_BUDGET = "reserve_eats_budget"


class Config(_Section):
    """Everything that can be configured; durations in seconds."""

    uri: Name = "qemu:///system"
    """libvirt's URI of the host; by default what ``LIBVIRT_DEFAULT_URI`` says, if it is set."""
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    """What guests must run on; ``auto``: anything."""
    budget_s: Duration = 30.0
    """Longest allowed pause of an update domain."""
    resume_reserve_s: Duration = 2.0
    """Part of the budget that is kept for resuming: the update is abandoned before it."""
    resume_patience_s: Duration = 60.0
    """How long a guest is tried to be resumed before it is called stranded; far beyond any
    budget, because giving up early would help no guest. Its guardian goes on after that."""
    soak_s: DurationOrZero = 0.0
    """How long to wait between update domains."""
    spread: Annotated[int, Field(ge=1)] | None = None
    """Assign guests to this many update domains, whatever their own say."""
    at_most: Annotated[int, Field(ge=1)] | None = None
    """Pause no more guests than this together: a larger update domain is done in parts."""
    prepare_timeout_s: Duration = 120.0
    """For everything before the pause: connecting, logging in, baselines. And for all of
    ``harness clock``, but its watch."""
    mend_timeout_s: Duration = 60.0
    """For clocks and checks after the pause, and once more for verifying the update, or rolling it
    back."""
    update: SerializeAsAny[UpdateSection] = UpdateSection.model_construct()
    further_updates: tuple[SerializeAsAny[UpdateSection], ...] = ()
    clock: ClockSection = ClockSection.model_construct()
    checks: ChecksSection = ChecksSection.model_construct()
    access: Access = "ssh"
    """``auto``: SSH where a login works, else the guest agent."""
    ssh: SshSection = SshSection.model_construct()
    events: EventsSection = EventsSection.model_construct()
    fleet: FleetSection = FleetSection.model_construct()
    outside: OutsideSection = OutsideSection.model_construct()
    notify: NotifySection = NotifySection.model_construct()
    metrics: MetricsSection = MetricsSection.model_construct()
    otel: OtelSection = OtelSection.model_construct()
    guest: tuple[GuestSection, ...] = ()
    availability_set: tuple[AvailabilitySetSection, ...] = ()

    @field_validator("guest")
    @classmethod
    def _one_entry_a_guest(cls, guests: tuple[GuestSection, ...]) -> tuple[GuestSection, ...]:
        _refuse_twins("guests", [guest.name for guest in guests])
        return guests

    @field_validator("availability_set")
    @classmethod
    def _one_entry_a_set(
        cls, sets: tuple[AvailabilitySetSection, ...]
    ) -> tuple[AvailabilitySetSection, ...]:
        _refuse_twins("availability sets", [one.name for one in sets])
        return sets

    @model_validator(mode="after")
    def _reserve_fits_in_budget(self) -> Config:
        if self.resume_reserve_s >= self.budget_s:
            raise PydanticCustomError(
                RESERVE_EATS_BUDGET,
                "a reserve of {reserve} s leaves nothing of a budget of {budget} s for the update",
                {"reserve": f"{self.resume_reserve_s:g}", "budget": f"{self.budget_s:g}"},
            )
        return self

    @property
    def updates(self) -> tuple[UpdateSection, ...]:
        """Every ``[[update]]``, in the order in which they are applied."""
        return (self.update, *self.further_updates)

    def only(self, updates: tuple[UpdateSection, ...]) -> Self:
        """Return this configuration with these updates."""
        changed = {"update": updates[0], "further_updates": updates[1:]}
        return self.model_copy(update=changed)

    def for_guest(self, name: str, uuid: str = "") -> GuestSection:
        """The guest's own section, found by name or UUID, or the defaults."""
        return guest_section(self.guest, name, uuid)

    def for_set(self, name: str) -> AvailabilitySetSection:
        """The availability set's own section, or the defaults."""
        return set_section(self.availability_set, name)


def _refuse_twins(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what} are called {name!r}")
