"""Reading a guest's clock over a loop that was started before the pause and lives on after it."""

from __future__ import annotations

import errno
import re
from dataclasses import asdict
from typing import Any

from harness.clock.agents import Agent, agent
from harness.clock.arithmetic import Sample, best, consistent
from harness.errors import HarnessError, ProbeError
from harness.guest.facts import GuestFacts
from harness.guest.protocol import GuestShell, LineStream
from harness.records import ClockReading
from harness.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline

#: /proc/uptime counts hundredths of a second and is cut, not rounded.
_UPTIME_RESOLUTION_NS = 10_000_000
#: How much of a strange answer is shown.
_SHOWN = 80
_HINT_RIGHTS = "setting a clock needs root in the guest (CAP_SYS_TIME)"
_ADJTIMEX = re.compile(r"time\.tv_sec:\s*(\d+)\s+time\.tv_usec:\s*(\d+)")


class Sampler:
    """Asks one guest for its clock; ``raw`` keeps every sample for the run folder."""

    def __init__(
        self, guest: str, stream: LineStream, used: Agent, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.guest = guest
        self.raw: list[dict[str, Any]] = []
        self._stream = stream
        self._agent = used
        self._clock = clock
        self._asked = 0

    @classmethod
    def open(
        cls, shell: GuestShell, facts: GuestFacts, deadline: Deadline, clock: Clock = SYSTEM_CLOCK
    ) -> Sampler:
        """Start the best agent that works in the guest.

        An interpreter that is there but broken is passed over. Raises ProbeError if none works.
        """
        troubles = []
        for interpreter in facts.interpreters:
            used = agent(interpreter)
            sampler = cls(shell.guest, shell.stream(used.command, deadline), used, clock)
            try:
                sampler.read(1, deadline)
            except ProbeError as error:
                sampler.close()
                troubles.append(f"{interpreter}: {error.message}")
            except HarnessError:
                sampler.close()
                raise
            else:
                return sampler
        raise ProbeError(
            f"has no usable interpreter ({'; '.join(troubles)})",
            guest=shell.guest,
            hint="harness needs python3, or a sh with date, in the guest",
        )

    @property
    def interpreter(self) -> str:
        """What the agent runs in: ``python3`` or ``sh``."""
        return self._agent.interpreter

    @property
    def can_step(self) -> bool:
        """Whether ``step`` works."""
        return self._agent.can_step

    def read(self, samples: int, deadline: Deadline) -> ClockReading:
        """The best of ``samples`` exchanges.

        Raises ProbeError for answers that make no sense or a clock that jumps meanwhile,
        DeadlineExpired or ShellUnreachable for none.
        """
        taken = [self._sample(deadline) for _ in range(samples)]
        if not consistent(taken):
            raise ProbeError("its clock jumped while it was being read", guest=self.guest)
        return best(taken)

    def step(self, nanoseconds: int, deadline: Deadline) -> None:
        """One relative step of CLOCK_REALTIME, forwards if positive. Raises ProbeError."""
        answer = self._stream.ask(f"s {nanoseconds}", deadline)[1]
        if answer == "ok":
            return
        name = errno.errorcode.get(int(answer), answer) if answer.isdecimal() else answer[:_SHOWN]
        raise ProbeError(f"the step was refused: {name}", guest=self.guest, hint=_HINT_RIGHTS)

    def set_second(self, second: int, deadline: Deadline) -> None:
        """Set the clock to a whole second, at once. Raises ProbeError."""
        answer = self._stream.ask(f"d {second}", deadline)[1]
        if answer != "ok":
            raise ProbeError("date refused to set the clock", guest=self.guest, hint=_HINT_RIGHTS)

    def close(self) -> None:
        """End the remote loop; never raises."""
        self._stream.close()

    def _sample(self, deadline: Deadline) -> Sample:
        self._asked += 1
        sent_ns, answer, received_ns = self._stream.ask(f"r {self._asked}", deadline)
        while (number := answer.partition(" ")[0]).isdecimal() and int(number) < self._asked:
            # An answer to a question that was given up: the next line may be ours.
            answer, received_ns = self._stream.listen(deadline)
        to_realtime_ns = self._clock.realtime_ns() - self._clock.monotonic_ns()
        try:
            sample = _parse(answer, self._asked, sent_ns, received_ns, to_realtime_ns)
        except (ValueError, IndexError) as error:
            raise ProbeError(
                f"its clock agent answers nonsense: {answer[:_SHOWN]!r}", guest=self.guest
            ) from error
        self.raw.append(asdict(sample))
        return sample


def _parse(answer: str, asked: int, sent_ns: int, received_ns: int, to_realtime_ns: int) -> Sample:
    """Raises ValueError for anything that is not an answer to this question."""
    number, kind, *rest = answer.split(" ", 3)
    if int(number) != asked:
        raise ValueError(number)
    if kind.isdecimal():
        guest_received, guest_sent = int(kind), int(rest[0])
        monotonic, resolution, monotonic_resolution = int(rest[1].split()[0]), 1, 1
    else:
        guest_received, resolution = _shell_reading(kind, " ".join(rest[1:]))
        guest_sent = guest_received
        monotonic = round(float(rest[0]) * NS_PER_S) + _UPTIME_RESOLUTION_NS // 2
        monotonic_resolution = _UPTIME_RESOLUTION_NS // 2
    return Sample(
        host_sent_ns=sent_ns + to_realtime_ns,
        guest_received_ns=guest_received,
        guest_sent_ns=guest_sent,
        host_received_ns=received_ns + to_realtime_ns,
        host_sent_monotonic_ns=sent_ns,
        host_received_monotonic_ns=received_ns,
        guest_monotonic_ns=monotonic,
        resolution_ns=resolution,
        monotonic_resolution_ns=monotonic_resolution,
    )


def _shell_reading(kind: str, text: str) -> tuple[int, int]:
    """(nanoseconds, resolution) from what the sh agent's tool printed."""
    if kind == "adjtimex":
        found = _ADJTIMEX.search(text)
        if found is None:
            raise ValueError(text)
        return int(found[1]) * NS_PER_S + int(found[2]) * 1000, 1000
    seconds, _, fraction = text.partition(".")
    if kind == "date":
        return int(seconds) * NS_PER_S + int(fraction), 1
    # Whole seconds, cut: the middle of the second is the best guess.
    return int(seconds) * NS_PER_S + NS_PER_S // 2, NS_PER_S // 2
