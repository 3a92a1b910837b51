"""What a guest agent (QEMU's) is asked through, and which of its commands this guest allows.

The channel is the hypervisor's, and is handed down: this room knows no libvirt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from harness.core.errors import ProbeError
from harness.core.timebase import Deadline

#: What a shell takes; without these the agent can still tell and set the time.
EXEC = ("guest-exec", "guest-exec-status")
#: … and programs that answer lines, beside that.
FILES = (
    "guest-file-open",
    "guest-file-close",
    "guest-file-read",
    "guest-file-write",
    "guest-file-flush",
)
#: No command of an agent takes longer but one that hangs: setting the time runs hwclock.
COMMAND_S = 10.0
GET_TIME, SET_TIME = "guest-get-time", "guest-set-time"
OS_INFO, INTERFACES = "guest-get-osinfo", "guest-network-get-interfaces"


class AgentChannel(Protocol):
    """The way to one guest's agent, by its hypervisor: what answers is that guest, for certain."""

    @property
    def guest(self) -> str:
        """The guest's libvirt name, for messages."""

    def ask(self, command: str, deadline: Deadline, arguments: Mapping[str, Any] | None) -> Any:
        """Return what the agent answers to one command, in COMMAND_S at most; one at a time.

        An answer that comes after the deadline is dropped: it is never taken for another answer.
        Raises HypervisorError (AgentSilent where no agent answers), DeadlineExpired.
        """


@dataclass(frozen=True)
class AgentAbilities:
    """What one guest's agent allows, as it says itself (``guest-info``)."""

    version: str
    allowed: frozenset[str]
    blocked: frozenset[str]
    """Commands that it knows and that are switched off, e.g. by RHEL's ``BLOCK_RPCS``."""

    def lacks(self, commands: Iterable[str]) -> tuple[str, ...]:
        """Return those of ``commands`` that may not be used, with why."""
        return tuple(
            f"{one} ({'blocked' if one in self.blocked else 'not known to it'})"
            for one in commands
            if one not in self.allowed
        )

    @property
    def runs(self) -> bool:
        """Whether it runs programs and tells what they print."""
        return not self.lacks(EXEC)

    @property
    def streams(self) -> bool:
        """Whether programs can be asked again and again while they run."""
        return not self.lacks((*EXEC, *FILES))


def abilities_of(channel: AgentChannel, deadline: Deadline) -> AgentAbilities:
    """Ask an agent what it allows. Raises HypervisorError, DeadlineExpired, ProbeError."""
    said = channel.ask("guest-info", deadline, None)
    try:
        commands = {str(one["name"]): bool(one["enabled"]) for one in said["supported_commands"]}
        version = str(said.get("version", ""))
    except (KeyError, TypeError, AttributeError) as error:
        raise nonsense(channel.guest, said) from error
    return AgentAbilities(
        version,
        frozenset(name for name, enabled in commands.items() if enabled),
        frozenset(name for name, enabled in commands.items() if not enabled),
    )


def nonsense(guest: str, said: object) -> ProbeError:
    """Return the error for an agent that answers what no agent does."""
    return ProbeError(f"the guest agent answers nonsense: {str(said)[:80]!r}", guest=guest)
