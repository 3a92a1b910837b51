"""Everything there is to reach one guest's clock by; a method takes what it needs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from harness.clock.agent_time import AgentClock
from harness.clock.sampling import Sampler
from harness.clock.turn import ALONE, Turn
from harness.core.errors import CommandFailed
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.guest.protocol import GuestShell


@dataclass
class OwedTicks:
    """Ticks that QEMU may deliver to a guest later, for the time that it was paused."""

    forget: AgentClock | None = None
    """What makes QEMU forget them when it sets the time; None: there is no such way."""
    why_not_forgotten: str | None = "it was not asked for"
    """Why QEMU still owes them; None: it has been made to forget them."""


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
    turn: Turn = ALONE
    """Its turn among the guests whose clocks are corrected together."""
    owed: OwedTicks | None = None
    """None: QEMU owes this guest no ticks, or it counts none."""

    def run(self, words: tuple[str, ...], deadline: Deadline) -> str:
        """Run a program in the guest; what it printed. Raises CommandFailed, ShellError."""
        if self.shell is None:
            raise CommandFailed("there is no shell", returncode=127, guest=self.sampler.guest)
        prefix = ("sudo", "-n") if self.sudo else ()
        command = shlex.join((*prefix, *words))
        return self.shell.run(f"{command} 2>&1 </dev/null", deadline).stdout
