"""What the rest of the program may ask of a hypervisor.

``window.py`` and ``run.py`` see only this, so that a fake, libvirt's own test driver and a real
QEMU pass one contract suite (``tests/contract/test_hypervisor.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState as GuestState
from harness.host.lifecycle import StateReading as StateReading
from harness.host.parking import GuestParking as GuestParking
from harness.host.parking import ProcessIdentity as ProcessIdentity

if TYPE_CHECKING:  # pydantic is half of what the guardian would weigh
    from harness.core.records import HostRecord


@dataclass(frozen=True)
class Timekeeping:
    """What a guest's description says of its clocks; read in :mod:`harness.host.timekeeping`."""

    offset: str = "utc"
    """What the RTC shows at the guest's start: ``utc``, ``localtime``, ``timezone`` …"""
    zone: str | None = None
    """The name of the time zone, where ``offset`` is ``timezone``."""
    adjustment_s: int | None = 0
    """What is added to that, where ``offset`` is ``variable``; None: not told in seconds."""
    rtc_tickpolicy: str | None = None
    hypervclock: bool = False
    """Whether Windows may read Hyper-V's reference clock."""
    enlightenments: tuple[str, ...] = ()
    """Hyper-V enlightenments that are on, sorted; ``passthrough``: all that the host has."""


@dataclass(frozen=True)
class GuestInfo:
    """One guest as the hypervisor describes it; ``name`` is only ever data."""

    name: str
    uuid: str
    state: StateReading
    accelerator: str
    """``kvm`` or ``tcg``; ``test`` on libvirt's test driver."""
    rtc_track: str
    """``wall`` (RTC goes on through a pause; libvirt's default) or ``guest``."""
    memory_bytes: int
    vcpus: int
    update_domain: str | None = None
    """From ``<metadata>``: ``<maintenance xmlns="urn:harness:maintenance:1" update-domain="0"
    availability-set="web"/>``."""
    availability_set: str | None = None
    macs: tuple[str, ...] = ()
    taps: tuple[tuple[str, str], ...] = ()
    """(MAC, name of the host's interface) of each plugged-in interface of a running guest."""
    timekeeping: Timekeeping | None = None
    """What its description says of its clocks; None: this hypervisor describes none."""


@dataclass(frozen=True)
class AgentFacts:
    """What a guest's agent tells of the guest and of itself, through the hypervisor."""

    boot_id: str | None
    """The kernel's boot id; None: this agent may not read files."""
    sets_time: bool
    """Whether ``guest-set-time`` is allowed."""


@dataclass(frozen=True)
class GuestAddress:
    """An IP address that a guest may have, and who says so."""

    address: str
    origin: str
    """E.g. ``guest agent, eth0``, ``DHCP lease``, ``ARP``."""


#: The detail of a STOPPED event whose guest was saved to disk (VIR_DOMAIN_EVENT_STOPPED_SAVED).
STOPPED_SAVED = "4"
#: … and of one that goes on elsewhere (VIR_DOMAIN_EVENT_STOPPED_MIGRATED).
STOPPED_MIGRATED = "3"


class EventKind(StrEnum):
    """The lifecycle events that matter here."""

    STARTED = "started"
    SUSPENDED = "suspended"  # libvirt's word for: the guest was paused
    RESUMED = "resumed"
    STOPPED = "stopped"
    CRASHED = "crashed"
    OTHER = "other"


@dataclass(frozen=True)
class LifecycleEvent:
    """One event, stamped with the host's CLOCK_MONOTONIC when it reached us."""

    uuid: str
    kind: EventKind
    detail: str
    at_ns: int


@dataclass(frozen=True)
class Call:
    """A call that changed a guest's state; host's CLOCK_MONOTONIC right before and after it."""

    began_ns: int
    returned_ns: int


class Hypervisor(Protocol):
    """A connection to one host's hypervisor.

    Every call ends by its deadline (:class:`~harness.core.errors.DeadlineExpired`) and raises only
    errors of :mod:`harness.core.errors`. Safe to call from several threads at once. A connection
    that broke is re-made by the next call.
    """

    uri: str

    @property
    def parking(self) -> GuestParking:
        """What replaces the QEMU of its guests."""

    def ready(self, calls: int, deadline: Deadline) -> None:
        """Have at hand what ``calls`` at once take, so that nothing is made when time is short."""

    def host(self, deadline: Deadline) -> HostRecord:
        """Facts of the host; its ``accelerator`` is what a new guest would get."""

    def guests(self, deadline: Deadline) -> Sequence[GuestInfo]:
        """Every guest of the host, running or not, sorted by name."""

    def find(self, name_or_uuid: str, deadline: Deadline) -> GuestInfo:
        """The guest of that name, else of that UUID. Raises GuestNotFound (hint: nearest name)."""

    def state(self, uuid: str, deadline: Deadline) -> StateReading:
        """State and reason, read in one call; ``GONE`` if there is no such guest any more.

        ``SHUT_OFF`` with the reason ``saved`` is a guest that the next start brings back as it was.
        """

    def about_to_pause(self, uuids: Sequence[str], deadline: Deadline) -> None:
        """Look at all of these guests at once: the pauses that follow at once are quicker for it.

        It changes nothing about what they do. Raises HypervisorError or DeadlineExpired.
        """

    def pause(self, uuid: str, deadline: Deadline) -> Call:
        """Stop the vCPUs, RAM in place. Returns the call after which the guest was paused.

        Raises WrongState if it was not running (so a pause by another program is never taken for
        ours), HypervisorError if the hypervisor refused. A pause that is given up at its deadline
        may still take effect later.
        """

    def resume(self, uuid: str, deadline: Deadline) -> Call | None:
        """Let the vCPUs run. Returns the call before which the guest was surely paused.

        Pauses of this connection that were given up are waited for first. None for a guest that
        runs already, which is left alone and is no error (another program resumed it).
        Raises WrongState if it is shut off, crashed or gone, ResumeFailed if it stays paused.
        """

    def process(self, uuid: str, deadline: Deadline) -> ProcessIdentity | None:
        """The guest's QEMU process, or None where it cannot be seen (remote, no right)."""

    def has_ended(self, process: ProcessIdentity) -> bool:
        """Whether that QEMU process is surely no more; False also where it cannot be told."""

    def vcpu_time_ns(self, process: ProcessIdentity) -> int | None:
        """Return the CPU time of all vCPU threads, or None where it cannot be seen. Quick."""

    def main_thread_time_ns(self, process: ProcessIdentity) -> int | None:
        """Return the CPU time of the thread that QEMU starts in, None where it cannot be seen."""

    def lives(self, process: ProcessIdentity) -> bool:
        """Return True if that very process lives, asked of the kernel of this machine."""

    def restored(self, process: ProcessIdentity) -> bool:
        """Return True if the process took over a guest that ran in another: saved, or migrated."""

    def monitor(self, process: ProcessIdentity) -> Path | None:
        """Return the socket of QEMU's monitor, for a person; None where it cannot be seen."""

    def addresses(self, uuid: str, deadline: Deadline) -> Sequence[GuestAddress]:
        """IP addresses the guest may have, best source first: guest agent, DHCP lease, ARP.

        First those of its own MACs; last those that its agent tells of other interfaces, such as
        a bridge in the guest, but for addresses of this host. Loopback and link-local are left
        out; empty if nothing is known.
        """

    def leases(self, deadline: Deadline) -> Mapping[str, str]:
        """Address → MAC of every DHCP lease of the host's virtual networks."""

    def guest_time_ns(self, uuid: str, deadline: Deadline) -> int:
        """The guest's CLOCK_REALTIME as its guest agent tells it. Raises HypervisorError."""

    def set_guest_time(self, uuid: str, realtime_ns: int, deadline: Deadline) -> None:
        """Let the guest agent set the guest's clock. Raises HypervisorError."""

    def agent_facts(self, uuid: str, deadline: Deadline) -> AgentFacts:
        """What the guest agent tells. Raises HypervisorError where none answers."""

    def ask_agent(
        self, uuid: str, command: str, deadline: Deadline, arguments: Mapping[str, Any] | None
    ) -> Any:
        """Return what the guest agent answers to one of its own commands.

        One at a time for each guest. An answer that comes after the deadline is taken for no
        other's. Raises HypervisorError: AgentSilent where no agent answers, WrongState where the
        guest is paused.
        """

    def events(self, uuid: str) -> Sequence[LifecycleEvent]:
        """Events of one guest seen since the connection was opened, oldest first."""

    def missed_events(self, since_ns: int) -> bool:
        """Return True if events since then (CLOCK_MONOTONIC) may be missing in ``events``."""

    def close(self) -> None:
        """Let go of the connection and of the event loop's thread. Idempotent."""
