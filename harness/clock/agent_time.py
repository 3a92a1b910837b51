"""The time that a guest agent (QEMU's) tells, and the protocol by which a clock is asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.core.records import ClockReading
from harness.core.timebase import NS_PER_S, Deadline


@dataclass(frozen=True)
class AgentTime:
    """The guest agent's answer; the stamps are the host's CLOCK_REALTIME around the question."""

    sent_ns: int
    guest_ns: int
    received_ns: int

    @property
    def reading(self) -> ClockReading:
        """As an offset with its uncertainty: half of the time it took."""
        took_ns = self.received_ns - self.sent_ns
        return ClockReading(
            offset_s=(self.guest_ns - (self.sent_ns + self.received_ns) / 2) / NS_PER_S,
            uncertainty_s=(took_ns / 2 + 1000) / NS_PER_S,  # it tells microseconds
        )


class AgentClock(Protocol):
    """A guest's clock by way of its guest agent and the hypervisor."""

    def get(self, deadline: Deadline) -> AgentTime:
        """``guest-get-time``. Raises HypervisorError, DeadlineExpired."""

    def set(self, realtime_ns: int, deadline: Deadline) -> None:
        """``guest-set-time``. Raises HypervisorError, DeadlineExpired."""
