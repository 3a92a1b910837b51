"""The time that a guest agent (QEMU's) tells, and the protocol by which a clock is asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.core.records import ClockReading
from harness.core.timebase import NS_PER_S, Deadline
from harness.guest.facts import GuestOs

#: The guest agent counts microseconds in Linux. In Windows it tells the time of the last tick.
RESOLUTION_NS = {GuestOs.LINUX: 1_000, GuestOs.WINDOWS: 15_625_000}


@dataclass(frozen=True)
class AgentTime:
    """The guest agent's answer; the stamps are the host's CLOCK_REALTIME around the question."""

    sent_ns: int
    guest_ns: int
    received_ns: int

    def reading_in(self, os: GuestOs) -> ClockReading:
        """As an offset with its uncertainty: half of the time it took, and what ``os`` tells."""
        took_ns = self.received_ns - self.sent_ns
        return ClockReading(
            offset_s=(self.guest_ns - (self.sent_ns + self.received_ns) / 2) / NS_PER_S,
            uncertainty_s=(took_ns / 2 + RESOLUTION_NS[os]) / NS_PER_S,
        )


class AgentClock(Protocol):
    """A guest's clock by way of its guest agent and the hypervisor."""

    def get(self, deadline: Deadline) -> AgentTime:
        """``guest-get-time``. Raises HypervisorError, DeadlineExpired."""

    def set(self, realtime_ns: int, deadline: Deadline) -> None:
        """``guest-set-time``. Raises HypervisorError, DeadlineExpired."""
