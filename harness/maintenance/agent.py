"""One guest's agent by way of the hypervisor: a channel for its shell, and its clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.clock.agent_time import AgentTime
from harness.core.errors import HypervisorError
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.guest.agent_channel import COMMAND_S, GET_TIME, SET_TIME, AgentChannel
from harness.host.protocol import Hypervisor


@dataclass(frozen=True)
class HypervisorChannel:
    """The way to one guest's agent (:class:`harness.guest.agent_channel.AgentChannel`)."""

    hypervisor: Hypervisor
    uuid: str
    guest: str

    def ask(self, command: str, deadline: Deadline, arguments: Mapping[str, Any] | None) -> Any:
        """See :class:`AgentChannel`."""
        until = deadline.sooner(COMMAND_S)
        return self.hypervisor.ask_agent(self.uuid, command, until, arguments)


@dataclass(frozen=True)
class GuestAgentClock:
    """One guest's clock by way of its guest agent (:class:`harness.clock.target.AgentClock`)."""

    hypervisor: Hypervisor
    uuid: str
    clock: Clock = SYSTEM_CLOCK

    def get(self, deadline: Deadline) -> AgentTime:
        """What the agent says, and when it was asked."""
        sent_ns = self.clock.realtime_ns()
        guest_ns = self.hypervisor.guest_time_ns(self.uuid, deadline)
        return AgentTime(sent_ns, guest_ns, self.clock.realtime_ns())

    def set(self, realtime_ns: int, deadline: Deadline) -> None:
        """Let the agent set the clock."""
        self.hypervisor.set_guest_time(self.uuid, realtime_ns, deadline)


@dataclass(frozen=True)
class ChannelClock:
    """The same for a guest that is reached by its agent alone.

    libvirt's own calls for the time wait for an agent that hangs, and keep its channel meanwhile.
    """

    channel: AgentChannel
    clock: Clock = SYSTEM_CLOCK

    def get(self, deadline: Deadline) -> AgentTime:
        """What the agent says, and when it was asked. Raises HypervisorError."""
        sent_ns = self.clock.realtime_ns()
        said = self.channel.ask(GET_TIME, deadline, None)
        received_ns = self.clock.realtime_ns()
        if not isinstance(said, int):
            raise HypervisorError(
                f"the guest agent answers nonsense: {str(said)[:80]!r}",
                operation=GET_TIME,
                guest=self.channel.guest,
            )
        return AgentTime(sent_ns, said, received_ns)

    def set(self, realtime_ns: int, deadline: Deadline) -> None:
        """Let the agent set the clock. Raises HypervisorError."""
        self.channel.ask(SET_TIME, deadline, {"time": realtime_ns})
