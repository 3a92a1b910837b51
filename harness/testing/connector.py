"""Guests in memory, and a :class:`harness.guest.protocol.Connector` that opens shells to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.core.errors import ShellUnreachable
from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.guest.protocol import Completed
from harness.testing.agent import FakeAgent
from harness.testing.clock import FakeClock


@dataclass
class FakeGuest:
    """A Linux guest with a clock, a boot id and a kernel log; change the fields to meddle.

    ``clock`` is the host's; ``offset_s`` is how far the guest's clock is from it, signed. Its
    agent keeps the offset, so corrections by any connection are seen by every other.
    """

    clock: FakeClock
    offset_s: float = 0.0
    boot_id: str = "11111111-2222-3333-4444-555555555555"
    uid: int = 0
    processes: tuple[str, ...] = ()
    """Names of running processes, e.g. ``chronyd``."""
    kernel_log: list[str] = field(default_factory=list)
    reachable: bool = True
    """False: neither logins nor open shells are answered."""
    agent: FakeAgent = field(init=False)

    def __post_init__(self) -> None:
        self.agent = FakeAgent(self.clock, self.offset_s)

    def answer(self, command: str) -> Completed:
        """Return what the guest prints when one of harness's own scripts is run in it."""
        if "/dev/kmsg" in command:
            marker = command.partition("harness: mark ")[2]
            self.kernel_log.append(f"harness: mark {marker[:16]}")
            return Completed(0, "", "")
        if "say boot_id" in command:
            runs = "".join(f"runs={name}\n" for name in self.processes)
            told = f"boot_id={self.boot_id}\nkernel=6.1.0\nclocksource=kvm-clock\nuid={self.uid}\n"
            return Completed(0, f"{told}has=python3\n{runs}", "")
        if "dmesg" in command:
            log = "".join(f"{line}\n" for line in self.kernel_log)
            boot_id = f"{self.boot_id}\n" if "boot_id" in command else ""
            return Completed(0, boot_id + log, "")
        return Completed(127, "", "not found\n")


class FakeGuestShell:
    """An open shell to a :class:`FakeGuest` (:class:`harness.guest.protocol.GuestShell`)."""

    def __init__(self, guest: str, inside: FakeGuest) -> None:
        self.guest = guest
        self.inside = inside
        self.commands: list[str] = []
        self.closed = False

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        """Answer a command; ``check`` is not looked at, because these answers are expected."""
        self._look()
        self.commands.append(command)
        return self.inside.answer(command)

    def stream(self, command: str, deadline: Deadline) -> FakeAgentStream:
        """Start the guest's clock agent."""
        self._look()
        return FakeAgentStream(self)

    def close(self) -> None:
        """Close the shell."""
        self.closed = True

    def _look(self) -> None:
        if self.closed or not self.inside.reachable:
            raise ShellUnreachable("the connection was closed", guest=self.guest)


class FakeAgentStream:
    """One connection to a guest's clock agent (:class:`harness.guest.protocol.LineStream`)."""

    def __init__(self, shell: FakeGuestShell) -> None:
        self._shell = shell

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        """Send a line, return the answer and when both passed the host."""
        self._shell._look()
        return self._shell.inside.agent.ask(line, deadline)

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        """Return the agent's last answer again."""
        self._shell._look()
        return self._shell.inside.agent.listen(deadline)

    def close(self) -> None:
        """End the stream; the guest's clock stays as it is."""


class FakeConnector:
    """Opens shells to guests in memory, by name; each guest is at the address ``10.0.0.1``.

    ``before[name]`` is called before that guest is logged in to and may raise, wait or meddle;
    ``opened`` lists every shell that was opened, ``logins`` every (name, address) tried.
    """

    def __init__(self, guests: Mapping[str, FakeGuest]) -> None:
        self.guests = dict(guests)
        self.before: dict[str, Callable[[], None]] = {}
        self.opened: list[FakeGuestShell] = []
        self.logins: list[tuple[str, str]] = []

    def configured_address(self, guest: str) -> str | None:
        """Return the address of a guest in memory; None for one that there is not."""
        return "10.0.0.1" if guest in self.guests else None

    def open(
        self, guest: str, address: str, common: SshSection, own: SshSection, deadline: Deadline
    ) -> FakeGuestShell:
        """Open a shell. Raises ShellUnreachable for a guest that is unknown or unreachable."""
        self.logins.append((guest, address))
        self.before.get(guest, lambda: None)()
        inside = self.guests.get(guest)
        if inside is None or not inside.reachable:
            raise ShellUnreachable(f"connecting to {address}: nobody answers", guest=guest)
        self.opened.append(FakeGuestShell(guest, inside))
        return self.opened[-1]
