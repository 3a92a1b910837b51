"""What a journal can say: one frozen record per kind of entry, told apart by ``event``. Pure.

Fields may be added with a default; none may change its meaning. What must change its meaning is a
new kind of entry, or a new :data:`VERSION`. A new kind is a member of :data:`Entry`, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

#: Of the entries written now. Entries without a version are of version 1.
VERSION = 1


@dataclass(frozen=True)
class Member:
    """A guest of an update domain, as entries name it."""

    name: str
    uuid: str


@dataclass(frozen=True)
class Life:
    """One life of a guest: its QEMU process, and how long its vCPUs have run in it."""

    uuid: str
    """The guest's."""
    qemu_pid: int
    qemu_start_ticks: int
    """When that process was started, as field 22 of ``/proc/PID/stat``."""
    vcpu_ns: int | None = None
    """CPU time of all vCPU threads: it grows only while the guest runs."""


@dataclass(frozen=True)
class RunStarted:
    """The run has its folder, its lock and its guardian; no guest was touched yet."""

    event: ClassVar[str] = "run started"
    user: str = ""
    start_ticks: int = 0
    """When the run's process was started, as field 22 of ``/proc/PID/stat``."""
    boot_id: str = ""
    """The boot of the host; entries of another boot tell of guests that ended with it."""
    release: str = ""
    """Of the host's kernel."""
    uri: str = ""
    update: str = ""
    """The kind of the update."""
    guests: tuple[str, ...] = ()
    """The names of all guests of the plan."""


@dataclass(frozen=True)
class UpdateDomainBegun:
    """The window of this update domain comes next."""

    event: ClassVar[str] = "update domain"
    name: str


@dataclass(frozen=True)
class Pausing:
    """The intent to pause these guests; on disk before the first of them is paused.

    From here on they are held: each may be paused, by this run.
    """

    event: ClassVar[str] = "pausing"
    guests: tuple[Member, ...]
    lives: tuple[Life, ...] = ()
    """Their processes, and their vCPUs' time right before; without those that cannot be seen."""


@dataclass(frozen=True)
class Armed:
    """The guardian has acknowledged that it resumes the guests after ``limit_s``."""

    event: ClassVar[str] = "armed"
    limit_s: float = 0.0


@dataclass(frozen=True)
class Paused:
    """The call that pauses this guest has succeeded; what tells later whether it stayed paused."""

    event: ClassVar[str] = "paused"
    guest: str
    uuid: str
    began_ns: int | None = None
    """CLOCK_BOOTTIME of the host, right before that call."""
    qemu_pid: int | None = None
    """Its QEMU process; null where it cannot be seen."""
    qemu_start_ticks: int | None = None
    """When that process was started, as field 22 of ``/proc/PID/stat``."""
    vcpu_ns: int | None = None
    """CPU time of all vCPU threads right after that call: it grows only if the guest runs."""


@dataclass(frozen=True)
class Parkable:
    """The next window may park this guest, and how it is brought back then.

    On disk before the guest is paused. See docs/how-to/qemu.md for what parking is.
    """

    event: ClassVar[str] = "parkable"
    guest: str
    uuid: str
    keep: str
    """Folder with hard links of its RAM files."""
    files: str
    """Folder with its state, and the two descriptions that it can be started by."""
    ram_folder: str
    """libvirt's memory backing folder."""
    short_name: str
    """The guest's name in the folders of its instances."""
    ram: Mapping[str, str]
    """Name of each RAM file → ``device:inode``."""
    commands: str
    """Where its QEMU looks for commands at its start."""
    persistent: bool = False
    """Whether it is parked as libvirt's managed save."""
    highest_id: int = 0
    """The highest id that libvirt is known to have given."""
    emulators: Mapping[str, str] = field(default_factory=dict)
    """``old`` and ``new``: the programs that its descriptions name."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """``old`` and ``new``: what those say of themselves."""
    trees: tuple[str, ...] = ()
    """Folders of unpacked packages that one of its two QEMUs is taken from."""
    copied: bool = False
    """Whether its RAM goes through its state, because no file has it."""
    start_s: float = 0.0
    """For how long a start of it may take, where that is long."""
    lasting: bool = False
    """Whether ``files`` outlast this boot of the host."""
    qemu_pid: int | None = None
    """Of one that is copied: the QEMU process that it is in before."""
    qemu_start_ticks: int | None = None
    """When that process was started, as field 22 of ``/proc/PID/stat``."""


@dataclass(frozen=True)
class Parking:
    """The QEMU of this guest is about to be ended, its RAM left in place."""

    event: ClassVar[str] = "parking"
    guest: str
    uuid: str


@dataclass(frozen=True)
class Parked:
    """The QEMU of this guest has ended; its RAM and its state are in their files."""

    event: ClassVar[str] = "parked"
    guest: str
    uuid: str


@dataclass(frozen=True)
class Unparking:
    """``by`` (run, guardian or recover) starts a QEMU with this guest's RAM."""

    event: ClassVar[str] = "unparking"
    guest: str
    uuid: str
    by: str = ""
    new: bool = False
    """The new QEMU, else the old one."""


@dataclass(frozen=True)
class UnparkRefused:
    """That QEMU could not be started, and why; the guest is parked as before."""

    event: ClassVar[str] = "unpark refused"
    guest: str
    uuid: str
    new: bool = False
    why: str = ""


@dataclass(frozen=True)
class Unparked:
    """This guest has a QEMU again, with its own RAM, still paused; and what tells it later."""

    event: ClassVar[str] = "unparked"
    guest: str
    uuid: str
    by: str = ""
    new: bool = False
    returned_ns: int | None = None
    """CLOCK_BOOTTIME of the host, when that was known."""
    qemu_pid: int | None = None
    """Its QEMU process; null where it cannot be seen."""
    qemu_start_ticks: int | None = None
    """When that process was started, as field 22 of ``/proc/PID/stat``."""
    vcpu_ns: int | None = None
    """CPU time of all its vCPU threads then: it grows only if the guest runs."""


@dataclass(frozen=True)
class HandingOver:
    """This guest, which is parked, is handed over to the kernel that is started next.

    On the disk before that kernel is started. Until ``leaving`` it is brought back in place.
    """

    event: ClassVar[str] = "handing over"
    guest: str
    uuid: str
    plan: str = ""
    """The thaw plan: what the next kernel brings it back by."""
    release: str = ""
    """Of that kernel, as ``uname -r`` says it."""


@dataclass(frozen=True)
class Leaving:
    """This kernel starts the next one: the last line of its boot, unless ``stayed`` follows.

    On the disk before the call. The pair of counter and time tells the next kernel what time it is.
    """

    event: ClassVar[str] = "leaving"
    release: str
    """Of the next kernel."""
    boot_id: str
    """Of this boot."""
    tsc: int = 0
    """The CPU's time stamp counter, which goes on."""
    at_realtime_ns: int = 0
    """CLOCK_REALTIME at that count."""
    width: int = 0
    """How many counts apart the two may have been read."""
    counts_per_ns: float = 0.0
    """The counter's own pace, measured over this run."""


@dataclass(frozen=True)
class Stayed:
    """The next kernel could not be started, and why: this one goes on."""

    event: ClassVar[str] = "stayed"
    why: str = ""


@dataclass(frozen=True)
class Arrived:
    """Another boot of the host has taken over what was handed over: ``by`` thaw or recover.

    Lines before it are of earlier boots: their processes and CLOCK_BOOTTIME mean nothing any more.
    """

    event: ClassVar[str] = "arrived"
    boot_id: str
    release: str = ""
    """Of the kernel that runs now."""
    by: str = ""
    moved_ns: int | None = None
    """By how much CLOCK_REALTIME was set; null: it was not."""
    uncertainty_ns: int | None = None
    """How well it is known then."""
    problem: str = ""
    """Why nothing can be brought back; empty: guests' RAM is what was left."""


@dataclass(frozen=True)
class Consumed:
    """The saved state of this guest is gone, on the disk too: it never comes back by it.

    On the disk before the guest runs. If the host is booted once more, the guest has ended.
    """

    event: ClassVar[str] = "consumed"
    guest: str
    uuid: str


@dataclass(frozen=True)
class Settled:
    """What was kept to bring this guest back has been removed: it runs, or has ended."""

    event: ClassVar[str] = "settled"
    guest: str
    uuid: str


@dataclass(frozen=True)
class Refused:
    """This guest was not paused by this run (it was not running, or gone): it is not held."""

    event: ClassVar[str] = "refused"
    guest: str
    uuid: str
    why: str = ""


@dataclass(frozen=True)
class Resuming:
    """``by`` (run, guardian or recover) has started to resume these guests."""

    event: ClassVar[str] = "resuming"
    by: str
    guests: tuple[Member, ...]


@dataclass(frozen=True)
class Resumed:
    """This guest runs: ``by`` resumed it, or found it running. It is held no longer."""

    event: ClassVar[str] = "resumed"
    guest: str
    uuid: str
    by: str


@dataclass(frozen=True)
class TakenOver:
    """Another program resumed this guest during the pause. It is held no longer."""

    event: ClassVar[str] = "taken over"
    guest: str
    uuid: str
    seen_by: str = ""


@dataclass(frozen=True)
class Saved:
    """Another program saved this guest to disk while it was held: it comes back paused. It is held.

    ``virsh managedsave`` does that, and what ends a host's guests before a reboot.
    """

    event: ClassVar[str] = "saved"
    guest: str
    uuid: str
    seen_by: str = ""


@dataclass(frozen=True)
class Ended:
    """This guest is shut off, crashed or gone. It is held no longer."""

    event: ClassVar[str] = "ended"
    guest: str
    uuid: str
    state: str = ""


@dataclass(frozen=True)
class Rescue:
    """The guardian came in, and why."""

    event: ClassVar[str] = "rescue"
    why: str = ""


@dataclass(frozen=True)
class Mended:
    """The clock of this guest was measured after the resume, and corrected if it had to be."""

    event: ClassVar[str] = "mended"
    guest: str
    uuid: str
    method: str | None = None
    """How the clock was corrected; null if it was not."""


@dataclass(frozen=True)
class Leased:
    """The availability sets of this update domain are leased: no other run pauses their guests."""

    event: ClassVar[str] = "leased"
    domain: str
    sets: tuple[str, ...] = ()
    database: str = ""
    """Its URL."""


@dataclass(frozen=True)
class LeaseReleased:
    """The availability sets of this update domain are free again, or left to expire, and why."""

    event: ClassVar[str] = "lease released"
    domain: str
    sets: tuple[str, ...] = ()
    left_because: str = ""
    """Why the leases were left to expire; empty if they are gone."""


@dataclass(frozen=True)
class Announced:
    """The Scheduled Events of this update domain are published to its guests."""

    event: ClassVar[str] = "announced"
    domain: str
    events: tuple[str, ...] = ()
    not_before_ns: int = 0
    """CLOCK_REALTIME."""


@dataclass(frozen=True)
class Started:
    """The Scheduled Events of this update domain have started: approved, or due."""

    event: ClassVar[str] = "started"
    domain: str
    events: tuple[str, ...] = ()
    approved: bool = False


@dataclass(frozen=True)
class EventRemoved:
    """The Scheduled Events of this update domain are gone from the document."""

    event: ClassVar[str] = "event removed"
    domain: str
    events: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotServed:
    """Guests cannot read their Scheduled Events at the moment, and why."""

    event: ClassVar[str] = "not served"
    why: str = ""


@dataclass(frozen=True)
class RunFinished:
    """The run has ended, and left no guest paused that it held."""

    event: ClassVar[str] = "run finished"
    outcome: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class RunStranded:
    """The process of the run has ended and left guests paused: ``harness recover`` goes on."""

    event: ClassVar[str] = "run stranded"
    outcome: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class Recovered:
    """``harness recover`` has finished this run."""

    event: ClassVar[str] = "recovered"
    guests: Mapping[str, str] = field(default_factory=dict)
    """What was done about each guest, by name."""


@dataclass(frozen=True)
class Torn:
    """The line before was torn (full disk, power cut) and means nothing."""

    event: ClassVar[str] = "torn"


Entry = (
    RunStarted
    | UpdateDomainBegun
    | Pausing
    | Armed
    | Paused
    | Parkable
    | Parking
    | Parked
    | Unparking
    | UnparkRefused
    | Unparked
    | HandingOver
    | Leaving
    | Stayed
    | Arrived
    | Consumed
    | Settled
    | Refused
    | Resuming
    | Resumed
    | TakenOver
    | Saved
    | Ended
    | Rescue
    | Mended
    | Leased
    | LeaseReleased
    | Announced
    | Started
    | EventRemoved
    | NotServed
    | RunFinished
    | RunStranded
    | Recovered
    | Torn
)
