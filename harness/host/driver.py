"""The hypervisor, as libvirt offers it (:class:`harness.host.protocol.Hypervisor`).

libvirt's calls block, some of them without end when libvirtd hangs. Each call therefore runs in a
daemon thread and is given up at its deadline. A broken connection is dropped and made again by the
next call; nothing that changes a guest is ever repeated here, because after a lost answer only
the caller knows whether repeating is safe.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import libvirt

from harness.core.errors import (
    ConnectionLost,
    DeadlineExpired,
    GuestNotFound,
    HypervisorError,
    ResumeFailed,
    WrongState,
)
from harness.core.fanout import fan_out, given_up_at
from harness.core.nearest import nearest
from harness.core.pasteable import command
from harness.core.process_stat import has_ended
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline, Stopwatch, wait_for
from harness.host import facts, guest_agent
from harness.host.accelerator import probe
from harness.host.addresses import SOURCES, Told, in_order, told_by
from harness.host.connections import Connections, Link
from harness.host.lately_running import LatelyRunning
from harness.host.lifecycle import SAVED, GuestState, StateReading
from harness.host.lifecycle_events import EventLog
from harness.host.one_at_a_time import OneAtATime
from harness.host.parker import LibvirtParking
from harness.host.pauses_in_flight import UnderWay
from harness.host.protocol import (
    AgentFacts,
    Call,
    GuestAddress,
    GuestInfo,
    LifecycleEvent,
    ProcessIdentity,
)
from harness.host.qemu_memory import cpu_time_ns, is_alive, vcpu_threads
from harness.host.qemu_process import (
    find_process,
    is_started,
    monitor_of,
    state_folder,
    was_restored,
)
from harness.host.resumes_under_way import ResumesUnderWay
from harness.host.states import reading
from harness.host.translate import translated

if TYPE_CHECKING:
    from harness.core.records import HostRecord

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: A libvirtd that is started by the first who asks may look at every QEMU before it answers.
_CONNECT_S = 30.0
_HINT_SILENT = (
    "libvirtd did not refuse the connection and did not answer; look at: systemctl status libvirtd"
)
#: One source of addresses; an agent that does not answer must not cost more.
_ADDRESS_SOURCE_S = 3.0
#: All questions to a guest agent together.
_AGENT_S = 5.0
#: A hung libvirtd must not keep us from ending.
_CLOSE_S = 2.0


class LibvirtHypervisor:
    """One libvirt; safe to use from several threads."""

    def __init__(self, uri: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.uri = uri
        self._clock = clock
        self._events = EventLog(clock)
        self._connections = Connections(uri, self._events)
        self._names: dict[str, str] = {}
        self._pauses = UnderWay()
        self._resumes = ResumesUnderWay()
        self._running = LatelyRunning(self._events.of, clock)
        self._asking = OneAtATime()
        self._processes: dict[str, ProcessIdentity | None] = {}
        self.parking = LibvirtParking(self._call, self._found, self._is_started, clock)

    @classmethod
    def open(cls, uri: str, deadline: Deadline) -> LibvirtHypervisor:
        """Connect, in half a minute at most. Raises ConnectionLost or DeadlineExpired."""
        hypervisor, watch = cls(uri, deadline.clock), Stopwatch(deadline.clock)
        until = deadline.sooner(_CONNECT_S)
        try:
            hypervisor.ready(1, until)
        except DeadlineExpired as error:
            what = f"connecting to {uri}"
            raise DeadlineExpired(what, until.limit_s, hint=_HINT_SILENT) from error
        except ConnectionLost as error:
            if not hypervisor._is_local:
                error.hint = f"does this answer? {command('virsh', '--connect', uri, 'list')}"
            raise
        _log.info("connected to %s in %.3f s", uri, watch.elapsed_s())
        return hypervisor

    def close(self) -> None:
        """Let go of the connections."""
        until = Deadline.after(_CLOSE_S, self._clock)
        fan_out({"": self._connections.close}, until, what="closing")

    def ready(self, calls: int, deadline: Deadline) -> None:
        """Have what so many calls at once take."""
        self._bounded("connecting", None, deadline, partial(self._connections.ready, calls))

    def host(self, deadline: Deadline) -> HostRecord:
        """Facts of the host."""
        accelerator = probe().accelerator if self._is_local else "unknown"
        return self._call(
            "reading the host",
            None,
            deadline,
            lambda link: facts.host_record(link.connection, accelerator),
        )

    def guests(self, deadline: Deadline) -> Sequence[GuestInfo]:
        """Every guest of the host, sorted by name."""

        def work(link: Link) -> list[GuestInfo]:
            with translated("listing guests"):
                domains = link.connection.listAllDomains()
            return sorted(self._described(domains), key=lambda info: info.name)

        return self._call("listing guests", None, deadline, work)

    def find(self, name_or_uuid: str, deadline: Deadline) -> GuestInfo:
        """By name, else by UUID."""
        known = self.guests(deadline)
        for key in ("name", "uuid"):
            for info in known:
                if getattr(info, key) == name_or_uuid:
                    return info
        names = [info.name for info in known]
        hint = nearest(name_or_uuid, names, f"guests of {self.uri}")
        raise GuestNotFound(
            "no such guest",
            operation="looking up",
            code=libvirt.VIR_ERR_NO_DOMAIN,
            guest=name_or_uuid,
            hint=hint if names else f"{self.uri} has no guests",
        )

    def state(self, uuid: str, deadline: Deadline) -> StateReading:
        """State and reason; ``GONE`` for a guest that does not exist any more."""
        return self._call("reading the state", uuid, deadline, partial(self._state, uuid))

    def about_to_pause(self, uuids: Sequence[str], deadline: Deadline) -> None:
        """One call for all of them. ``pause`` asks about those that do not run, or are not here."""

        def work(link: Link) -> None:
            at_ns = self._clock.monotonic_ns()
            with translated("looking at guests"):
                running = link.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING)
                found = {domain.UUIDString() for domain in running}
            self._running.saw(found.intersection(uuids), at_ns)

        self._call("looking at guests", None, deadline, work)

    def pause(self, uuid: str, deadline: Deadline) -> Call:
        """Stop the vCPUs of a running guest, RAM in place."""

        def work(link: Link) -> Call:
            # libvirt pauses a guest that is paused already, and says nothing. Events of another's
            # pause come as soon as an answer would; if they come.
            if not (self._running.take(uuid) and self._connections.listening):
                before = self._state(uuid, link)
                if before.state is not GuestState.RUNNING:
                    raise WrongState(
                        f"is {before}, not running", operation="pausing", guest=self._name(uuid)
                    )
            with self._pauses.one(uuid):
                # If reading the state hung, the caller no longer waits: do not pause behind
                # the caller's back.
                deadline.check("pausing")
                began_ns = self._clock.monotonic_ns()
                with translated("pausing", self._name(uuid)):
                    link.guest(uuid).suspend()
                return Call(began_ns, self._clock.monotonic_ns())

        if given_up_at(deadline):  # by its caller: one thread for each guest is enough
            return self._attempt("pausing", deadline, work)
        return self._call("pausing", uuid, deadline, work)

    def resume(self, uuid: str, deadline: Deadline) -> Call | None:
        """Let the vCPUs of a paused guest run.

        The guest is resumed whatever its state seems to be: libvirt has calls to one guest
        wait for each other, so a pause that is still under way, of whomever, comes first.
        """

        def work(over: Callable[[], None], link: Link) -> Call | None:
            self._pauses.wait(uuid, deadline)
            refused: HypervisorError | None = None
            began_ns = self._clock.monotonic_ns()
            try:
                with translated("resuming", self._name(uuid)):
                    link.guest(uuid).resume()
            except ConnectionLost:
                raise
            except HypervisorError as error:
                refused = error  # perhaps it runs already; the state tells
            call = Call(began_ns, self._clock.monotonic_ns())
            over()
            self._resumes.wait(deadline.remaining_s())
            after = self._state(uuid, link)
            if after.state is GuestState.RUNNING:
                return None if refused else call
            said = f": {refused.message}" if refused else ""
            kind = ResumeFailed if after.state is GuestState.PAUSED else WrongState
            raise kind(
                f"is {after} after resuming{said}", operation="resuming", guest=self._name(uuid)
            )

        with self._resumes.one() as over:
            return self._call("resuming", uuid, deadline, partial(work, over))

    def process(self, uuid: str, deadline: Deadline) -> ProcessIdentity | None:
        """The guest's QEMU process; None on a remote host."""
        return self._found(uuid)

    def _found(self, uuid: str) -> ProcessIdentity | None:
        if not self._is_local:
            return None
        known = self._processes.get(uuid)
        if known is None or not is_alive(known):
            known = find_process(uuid, state_folder(self.uri))
            self._processes[uuid] = known
        return known

    def _is_started(self, uuid: str, name: str) -> bool:
        return not self._is_local or is_started(uuid, name, state_folder(self.uri))

    def has_ended(self, process: ProcessIdentity) -> bool:
        """By /proc, and by a signal that is not sent where /proc hides other users' processes."""
        return has_ended(process.pid, process.start_ticks)

    def vcpu_time_ns(self, process: ProcessIdentity) -> int | None:
        """Of all vCPU threads; None if they have no names to know them by, or are gone."""
        try:
            threads = vcpu_threads(process.pid)
            used_ns = sum(cpu_time_ns(process.pid, thread) for thread in threads)
        except (OSError, ValueError, IndexError):
            return None
        return used_ns if threads else None

    def main_thread_time_ns(self, process: ProcessIdentity) -> int | None:
        """That thread has the process's own id."""
        try:
            return cpu_time_ns(process.pid, process.pid)
        except (OSError, ValueError, IndexError):
            return None

    def lives(self, process: ProcessIdentity) -> bool:
        """By pid and start time."""
        return is_alive(process)

    def restored(self, process: ProcessIdentity) -> bool:
        """By its arguments."""
        return was_restored(process)

    def monitor(self, process: ProcessIdentity) -> Path | None:
        """As the kernel lists its sockets."""
        return monitor_of(process)

    def addresses(self, uuid: str, deadline: Deadline) -> Sequence[GuestAddress]:
        """Guest agent, DHCP lease, ARP; each asked for a limited time."""
        own: list[GuestAddress] = []
        others: list[GuestAddress] = []
        for source in SOURCES:
            try:
                known, unknown = self._call(
                    "asking for addresses",
                    uuid,
                    deadline.sooner(_ADDRESS_SOURCE_S),
                    partial(self._addresses_from, uuid, source),
                )
            except (ConnectionLost, GuestNotFound):
                raise
            except (HypervisorError, DeadlineExpired):
                continue  # no agent, no lease: the next source may know
            own += known
            others += unknown
        return in_order(own, others)

    def leases(self, deadline: Deadline) -> Mapping[str, str]:
        """Every DHCP lease of the host's virtual networks."""
        return self._call(
            "reading DHCP leases", None, deadline, lambda link: facts.leases(link.connection)
        )

    def guest_time_ns(self, uuid: str, deadline: Deadline) -> int:
        """``guest-get-time`` of the guest agent."""

        def work(link: Link) -> int:
            with translated("asking the guest agent for the time", self._name(uuid)):
                said = link.guest(uuid).getTime()
            return int(said["seconds"]) * NS_PER_S + int(said["nseconds"])

        return self._call("asking the guest agent for the time", uuid, deadline, work)

    def set_guest_time(self, uuid: str, realtime_ns: int, deadline: Deadline) -> None:
        """``guest-set-time`` of the guest agent."""
        seconds, nanoseconds = divmod(realtime_ns, NS_PER_S)

        def work(link: Link) -> None:
            deadline.check("setting the time")  # late, it would set a time that has passed
            with translated("setting the time by the guest agent", self._name(uuid)):
                time = {"seconds": seconds, "nseconds": nanoseconds}
                link.guest(uuid).setTime(time)

        self._call("setting the time by the guest agent", uuid, deadline, work)

    def agent_facts(self, uuid: str, deadline: Deadline) -> AgentFacts:
        """``guest-info`` and the boot id, through the guest agent."""
        until = deadline.sooner(_AGENT_S)

        def work(link: Link) -> AgentFacts:
            with translated("asking the guest agent", self._name(uuid)):
                domain = link.guest(uuid)
            return guest_agent.agent_facts(domain, self._name(uuid), until)

        return self._call("asking the guest agent", uuid, until, work)

    def ask_agent(
        self, uuid: str, command: str, deadline: Deadline, arguments: Mapping[str, Any] | None
    ) -> Any:
        """One command of the agent's own, by ``virDomainQemuAgentCommand``."""

        def work(link: Link) -> Any:
            with translated("asking the guest agent", self._name(uuid)):
                domain = link.guest(uuid)
            with self._asking.one(uuid, deadline):
                deadline.check("asking the guest agent")
                return guest_agent.ask(domain, self._name(uuid), deadline, command, arguments)

        return self._call(f"asking the guest agent ({command})", uuid, deadline, work)

    def events(self, uuid: str) -> Sequence[LifecycleEvent]:
        """Events of one guest since the connection was opened."""
        return self._events.of(uuid)

    def missed_events(self, since_ns: int) -> bool:
        """See :class:`harness.host.protocol.Hypervisor`."""
        return not self._connections.listening or self._events.listening_since_ns > since_ns

    @property
    def _is_local(self) -> bool:
        parts = urlsplit(self.uri)
        return not parts.netloc and parts.scheme.startswith("qemu")

    def _described(self, domains: Sequence[libvirt.virDomain]) -> Iterator[GuestInfo]:
        for domain in domains:
            try:
                info = facts.guest_info(domain)
            except GuestNotFound:
                continue  # it ended between the list and the look
            self._names[info.uuid] = info.name
            yield info

    def _state(self, uuid: str, link: Link) -> StateReading:
        try:
            with translated("reading the state", uuid):
                found = reading(*link.guest(uuid).state())
                if found.state is GuestState.SHUT_OFF and link.guest(uuid).hasManagedSaveImage():
                    return StateReading(GuestState.SHUT_OFF, SAVED)  # a new libvirtd says "unknown"
                return found
        except GuestNotFound:
            link.forget(uuid)
            return StateReading(GuestState.GONE, "unknown")

    def _addresses_from(self, uuid: str, source: int, link: Link) -> Told:
        domain = link.guest(uuid)
        with translated("asking for addresses", uuid):
            macs = facts.guest_info(domain).macs
            return told_by(source, domain.interfaceAddresses(source) or {}, macs)

    def _call(
        self,
        operation: str,
        guest: str | None,
        deadline: Deadline,
        work: Callable[[Link], T],
    ) -> T:
        """Do ``work`` with a living connection, in a thread of its own, by the deadline."""
        attempt = partial(self._attempt, operation, deadline, work)
        return self._bounded(operation, guest and self._name(guest), deadline, attempt)

    def _attempt(self, operation: str, deadline: Deadline, work: Callable[[Link], T]) -> T:
        with ExitStack() as stack:
            link = wait_for(
                lambda: stack.enter_context(self._connections.one()),
                what=f"{operation}: reconnecting to {self.uri}",
                deadline=deadline,
                interval_s=0.05,
                retry_on=(ConnectionLost,),
            )
            return work(link)

    def _name(self, uuid: str) -> str:
        """What people call the guest, if we have seen it."""
        return self._names.get(uuid, uuid)

    def _bounded(
        self, operation: str, guest: str | None, deadline: Deadline, work: Callable[[], T]
    ) -> T:
        return fan_out({guest or "": work}, deadline, what=operation)[guest or ""].get()
