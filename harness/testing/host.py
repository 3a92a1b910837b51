"""A host in memory with guests in it: their pauses stop their clocks, and libvirt may be away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.core.errors import ConnectionLost, HypervisorError
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.host.lifecycle import GuestState
from harness.host.protocol import AgentFacts, EventKind, GuestAddress, GuestInfo, ProcessIdentity
from harness.testing.guest import FakeGuest
from harness.testing.guest_agent import FakeAgent
from harness.testing.hypervisor import FakeHypervisor


class FakeHost(FakeHypervisor):
    """A Hypervisor whose guests are :class:`~harness.testing.guest.FakeGuest`.

    ``away``: libvirt does not answer. ``before`` and ``calls`` are those of FakeHypervisor.
    """

    def __init__(self, *guests: FakeGuest, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__({guest.name: GuestState.RUNNING for guest in guests}, clock)
        self.world = {guest.name: guest for guest in guests}
        self.labels: dict[str, tuple[str | None, str | None]] = {}
        """Guest → (update domain, availability set), as in its metadata."""
        self.processes = {
            guest.name: ProcessIdentity(1 << 22 | number, 1) for number, guest in enumerate(guests)
        }
        """A pid beyond those of Linux: there is no such process here."""
        self.away = False
        self.agents = {guest.name: FakeAgent(guest) for guest in guests}

    def _enter(self, operation: str, uuid: str) -> str:
        self._expect_libvirt(operation)
        return super()._enter(operation, uuid)

    def _expect_libvirt(self, operation: str) -> None:
        if self.away:
            raise ConnectionLost("the connection to libvirt broke", operation=operation)

    def _become(self, name: str, state: GuestState, kind: EventKind) -> None:
        super()._become(name, state, kind)
        if state is GuestState.PAUSED:
            self.world[name].freeze()
        elif state is GuestState.RUNNING:
            self.world[name].thaw()

    def _info(self, name: str) -> GuestInfo:
        update_domain, availability_set = self.labels.get(name, (None, None))
        return replace(
            super()._info(name),
            update_domain=update_domain,
            availability_set=availability_set,
            macs=self.world[name].macs,
        )

    def find(self, name_or_uuid: str, deadline: Deadline) -> GuestInfo:
        """As libvirt; raises ConnectionLost while it is away."""
        self._expect_libvirt("looking up")
        return super().find(name_or_uuid, deadline)

    def process(self, uuid: str, deadline: Deadline) -> ProcessIdentity | None:
        """What ``processes`` says."""
        return None if self.hides_processes else self.processes.get(uuid.removeprefix("uuid-"))

    def addresses(self, uuid: str, deadline: Deadline) -> Sequence[GuestAddress]:
        """The guest's one address."""
        return [GuestAddress(self.world[uuid.removeprefix("uuid-")].address, "DHCP lease")]

    def guest_time_ns(self, uuid: str, deadline: Deadline) -> int:
        """By its guest agent, where it has one."""
        return self._agent_of(uuid, deadline).realtime_ns()

    def set_guest_time(self, uuid: str, realtime_ns: int, deadline: Deadline) -> None:
        """By its guest agent, where it has one."""
        guest = self._agent_of(uuid, deadline)
        guest.step(realtime_ns - guest.realtime_ns())
        self.calls.append(("set time", guest.name))

    def agent_facts(self, uuid: str, deadline: Deadline) -> AgentFacts:
        """Its boot id and what it may do, where it has one."""
        guest = self._agent_of(uuid, deadline)
        reads = guest.boot_id if guest.agent_reads_files else None
        return AgentFacts(reads, guest.agent_sets_time)

    def ask_agent(
        self, uuid: str, command: str, deadline: Deadline, arguments: Mapping[str, Any] | None
    ) -> Any:
        """By its guest agent, where it has one."""
        self._expect_libvirt("asking")
        return self.agents[uuid.removeprefix("uuid-")].ask(command, deadline, arguments)

    def _agent_of(self, uuid: str, deadline: Deadline) -> FakeGuest:
        guest = self.world[uuid.removeprefix("uuid-")]
        self._expect_libvirt("asking")
        if not guest.guest_agent:
            raise HypervisorError("no guest agent", operation="asking", guest=guest.name)
        with guest.answering("asking the guest agent", deadline):
            return guest
