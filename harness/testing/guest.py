"""A guest in memory: its clocks stand still and its shell is silent while it is paused."""

from __future__ import annotations

import secrets
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from harness.core.errors import DeadlineExpired, ShellUnreachable
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline
from harness.guest.facts import INTERPRETERS
from harness.testing.windows import Windows

_ABILITIES = "step foreseen slew ptp rtc probe"


def _mac(name: str) -> str:
    digits = zlib.crc32(name.encode()).to_bytes(4, "big")
    return "52:54:" + ":".join(f"{digit:02x}" for digit in digits)


class FakeGuest:
    """One guest; every field may be changed at any time, by any thread.

    ``offset_s`` is the guest's true offset. What is to go wrong: ``silent`` answers nothing until
    the deadline, ``unreachable`` breaks every connection; each of ``after_resume`` ("silent",
    "unreachable", "rebooted") begins with the next resume.
    """

    agent_blocks: frozenset[str] = frozenset()
    """Commands that its guest agent has switched off."""
    agent_silent = False
    """Its guest agent hangs: it is connected, and answers nothing."""
    windows: Windows | None = None
    """What it is where it is no Linux: see ``become_windows``."""

    def __init__(
        self, name: str = "web1", *, offset_s: float = 0.0, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.name = name
        self.uuid = f"uuid-{name}"
        self.address = f"{name}.example"
        self.host_key = f"SHA256:{name}"
        self.host_key_doubt: str | None = None
        self.macs: tuple[str, ...] = (_mac(name),)
        """Of its domain; ``device_macs`` are those that it tells itself."""
        self.device_macs = self.macs
        self.machine_uuid: str | None = self.uuid
        """What its firmware tells root; None: nothing."""
        self.clock = clock
        self.uid = 0
        self.boot_id = f"boot-{name}-1"
        self.interpreters: tuple[str, ...] = INTERPRETERS
        self.abilities = _ABILITIES
        self.time_daemon: str | None = None
        """As /proc/PID/comm has it, e.g. ``chronyd``."""
        self.guest_agent = True
        self.agent_reads_files = True
        self.agent_sets_time = True
        self.kernel_log: list[str] = ["Linux version 6.1.0"]
        self.says_on_resume: tuple[str, ...] = ()
        """What its kernel logs when it is resumed."""
        self.after_resume: str | None = None
        self.silent = False
        self.unreachable = False
        self.ticks_on = False
        """Its clocks go on while it is paused: it is not frozen at all."""
        self.step_refusal: str | None = None
        """What the clock agent answers to a step instead of ``ok``."""
        self.chronyc_refuses = False
        """chronyc may not tell chronyd of a step."""
        self.sees_processes = True
        """False: its /proc hides what other users run."""
        self.kernel_log_denied = False
        """This user may not read the kernel log."""
        self.no_linux = False
        """Its shell knows none of the commands that tell what kind of guest it is."""
        self.silent_after_asks: int | None = None
        """So many more answers, then silence."""
        self.way_s = 0.0
        """How long a question to its clock agent is under way, and how long the answer."""
        self.agent_nonsense = False
        """The clock agent answers what is no reading."""
        self.asked: list[str] = []
        """Every command and question, in order."""
        self._state = threading.Condition()
        self._frozen_ns: int | None = None
        self._lost_ns = 0
        self._ahead_ns = clock.realtime_ns() - clock.monotonic_ns() + round(offset_s * NS_PER_S)

    def become_windows(self) -> Windows:
        """Be a Windows from now on, and return what it tells."""
        self.windows = Windows(uuid=self.machine_uuid or "", mac=self.macs[0])
        self.interpreters, self.abilities = ("powershell",), "step probe"
        return self.windows

    @property
    def paused(self) -> bool:
        """Whether its vCPUs stand still."""
        return self._frozen_ns is not None

    def monotonic_ns(self) -> int:
        """The guest's CLOCK_MONOTONIC."""
        now_ns = self.clock.monotonic_ns() if self._frozen_ns is None else self._frozen_ns
        return now_ns - self._lost_ns

    def realtime_ns(self) -> int:
        """The guest's CLOCK_REALTIME."""
        return self.monotonic_ns() + self._ahead_ns

    @property
    def offset_s(self) -> float:
        """How far its clock is from the host's; negative: slow."""
        return (self.realtime_ns() - self.clock.realtime_ns()) / NS_PER_S

    @offset_s.setter
    def offset_s(self, offset_s: float) -> None:
        self.step(round((offset_s - self.offset_s) * NS_PER_S))

    def step(self, nanoseconds: int) -> None:
        """Move its CLOCK_REALTIME, forwards if positive."""
        self._ahead_ns += nanoseconds

    def freeze(self) -> None:
        """Stop its vCPUs."""
        with self._state:
            self._frozen_ns = None if self.ticks_on else self.clock.monotonic_ns()

    def thaw(self) -> None:
        """Let its vCPUs run; what waits for an answer gets it now."""
        with self._state:
            if self._frozen_ns is not None:
                self._lost_ns += self.clock.monotonic_ns() - self._frozen_ns
                self._frozen_ns = None
            self.kernel_log += self.says_on_resume
            self.silent = self.silent or self.after_resume == "silent"
            self.unreachable = self.unreachable or self.after_resume == "unreachable"
            if self.after_resume == "rebooted":
                self.boot_id = f"boot-{self.name}-{secrets.token_hex(4)}"
                if self.windows is not None:
                    self.windows.boot += 1
            self._state.notify_all()

    @contextmanager
    def answering(self, what: str, deadline: Deadline) -> Iterator[None]:
        """Wait until it runs and would answer.

        Raises DeadlineExpired where it does not, ShellUnreachable where its connections break.
        """
        with self._state:
            if self.silent_after_asks is not None:
                self.silent_after_asks -= 1
                self.silent = self.silent or self.silent_after_asks < 0
            while self.silent or (self.paused and not self.unreachable):
                if deadline.expired:
                    raise DeadlineExpired(what, deadline.limit_s, guest=self.name)
                self._state.wait(min(deadline.remaining_s(), 0.05))
        if self.unreachable:
            raise ShellUnreachable("the connection broke", guest=self.name)
        yield
