"""A clock agent in memory: a guest whose clock is off by a known amount, over a known latency."""

from __future__ import annotations

from collections.abc import Callable

from harness.core.errors import DeadlineExpired, ProbeError, ShellUnreachable
from harness.core.timebase import NS_PER_S, Deadline
from harness.guest.protocol import Completed, Language, Way
from harness.testing.clock import FakeClock


class FakeAgent:
    """A LineStream. ``offset_s`` is the guest's true offset; the clock is stepped by ``s``."""

    def __init__(
        self,
        clock: FakeClock,
        offset_s: float = 0.0,
        there_s: float = 0.001,
        back_s: float = 0.001,
        abilities: str = "step slew ptp rtc probe",
    ) -> None:
        self.abilities = abilities
        self.clock = clock
        self.offset_s = offset_s
        self.there_s = there_s
        self.back_s = back_s
        self.asked: list[str] = []
        self.answer: Callable[[str], str] = self._answer
        self.closed = False

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        self.asked.append(line)
        sent_ns = self.clock.monotonic_ns()
        self.clock.advance(self.there_s)
        answer = self.answer(line)
        self.clock.advance(self.back_s)
        return sent_ns, answer, self.clock.monotonic_ns()

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        return self.answer(self.asked[-1]), self.clock.monotonic_ns()

    def close(self) -> None:
        self.closed = True

    def now_ns(self) -> int:
        """The guest's CLOCK_REALTIME."""
        return self.clock.realtime_ns() + round(self.offset_s * NS_PER_S)

    def _answer(self, line: str) -> str:
        what, number, *values = line.split(" ")
        return f"{number} {self._said(what, [int(value) for value in values])}"

    def _said(self, what: str, values: list[int]) -> str:
        if what == "r":
            now, mono = self.now_ns(), self.clock.monotonic_ns()
            return f"{now} {now + 1} {mono} {mono}"
        if what == "f":
            return self._foreseen(*values)
        if what == "h":
            return f"hello {self.abilities}"
        if what == "w":
            return "3 0 0 0 0 0 50000000"
        if what == "c":
            return str(self.now_ns() // NS_PER_S)
        if what == "s":
            self.offset_s += values[0] / NS_PER_S
        elif what == "t":
            self.clock.advance(values[1] / NS_PER_S)
            self.offset_s += values[0] * values[1] / 1e15
        elif what == "p":
            self.offset_s = values[0] / NS_PER_S
        elif what == "d":
            self.offset_s = values[0] - self.clock.realtime_ns() / NS_PER_S
        return "ok"

    def _foreseen(self, by_ns: int, earliest_ns: int, latest_ns: int) -> str:
        now, mono = self.now_ns(), self.clock.monotonic_ns()
        if not earliest_ns <= now <= latest_ns:
            return self._said("r", [])
        self.offset_s += by_ns / NS_PER_S
        return f"stepped {now} {self.now_ns()} {self.now_ns() + 1} {mono} {mono}"


class FakeShell:
    """A GuestShell that starts the given agents one after the other."""

    def __init__(self, *agents: FakeAgent, guest: str = "web1") -> None:
        self.guest = guest
        self.way = Way(guest)
        self.speaks = Language.SH
        self._agents = list(agents)
        self.started: list[str] = []

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        raise ShellUnreachable("this fake runs no commands", guest=self.guest)

    def stream(self, command: str, deadline: Deadline) -> FakeAgent:
        self.started.append(command)
        return self._agents.pop(0)

    def close(self) -> None:
        pass


def broken(line: str) -> str:
    """An interpreter that is there but does not work."""
    raise ProbeError("the remote loop ended: No module named 'ctypes'", guest="web1")


def silent(line: str) -> str:
    """An interpreter that never answers."""
    raise DeadlineExpired("asking the remote loop", 10.0, guest="web1")
