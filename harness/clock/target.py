"""Everything there is to reach one guest's clock by; a method takes what it needs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Protocol

from harness.clock.sampling import Sampler
from harness.core.errors import CommandFailed
from harness.core.records import ClockReading
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline
from harness.guest.protocol import GuestShell


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


@dataclass(frozen=True)
class Reach:
    """One guest's clock: the loop in the guest, a shell, the guest agent, the host's clock."""

    sampler: Sampler
    shell: GuestShell | None = None
    agent: AgentClock | None = None
    time_daemon: str | None = None
    sudo: bool = False
    """Commands that need a right are run by ``sudo -n``."""
    clock: Clock = SYSTEM_CLOCK

    def run(self, words: tuple[str, ...], deadline: Deadline) -> str:
        """Run a program in the guest; what it printed. Raises CommandFailed, ShellError."""
        if self.shell is None:
            raise CommandFailed("there is no shell", returncode=127, guest=self.sampler.guest)
        prefix = ("sudo", "-n") if self.sudo else ()
        command = shlex.join((*prefix, *words))
        return self.shell.run(f"{command} 2>&1 </dev/null", deadline).stdout
