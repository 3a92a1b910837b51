"""Reading a guest's clock over a loop that was started before the pause and lives on after it."""

from __future__ import annotations

import math
import re
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.clock.agent_answers import (
    ProbeCounts,
    Sent,
    number_of,
    parse_foreseen,
    parse_probe,
    parse_sample,
)
from harness.clock.agents import POWERSHELL, Ability, Agent, agent
from harness.clock.arithmetic import Sample, beside, best, consistent
from harness.clock.foreseen import ForeseenStep
from harness.clock.refusals import refused
from harness.clock.told import GUEST_AGENT
from harness.core.errors import DeadlineExpired, HarnessError, ProbeError
from harness.core.records import ClockReading
from harness.core.timebase import (
    NS_PER_S,
    SYSTEM_CLOCK,
    Clock,
    Deadline,
    Suspension,
    realtime_ahead,
)
from harness.guest.facts import INTERPRETERS, GuestFacts
from harness.guest.machine import known_uuid
from harness.guest.protocol import GuestShell, LineStream, Looked

#: How much of a strange answer is shown.
_SHOWN = 80
#: Samples that are remembered, of the latest.
_KEPT = 4096
#: An agent that says nothing for so long never will; starting one may take long.
_ANSWER_S = 10.0
_START_S = 15.0
#: A reading that is not as sure as was asked for is taken again, so often in all.
_TRIES = 3
#: Or for so long, where one was surer before: then the guest is busy, and will not stay so.
BUSY_S = 5.0
#: So many times what would be enough is the way itself, and not bad luck.
_HOPELESS = 4
#: More than anything is that it looks at.
_MOST_BYTES = 4 << 20
_JUMPED = "its clock jumped while it was being read"
_LATENCY = re.compile(r"latency=(\d{1,12})(?: |$)")
_HINT_SUDO = "let the user run python3, perl or sh by sudo without a password, or log in as root"

#: Says of the best of the samples so far whether more are not needed.
Enough = Callable[[ClockReading], bool]
Parse = Callable[[str, Sent], Sequence[Sample]]


def never(reading: ClockReading) -> bool:
    """No reading is enough before all samples are taken."""
    return False


@dataclass(frozen=True)
class Answered:
    """An answer and the host's CLOCK_MONOTONIC around it."""

    sent_ns: int
    text: str
    received_ns: int


class Sampler:
    """Asks one guest for its clock; ``raw`` keeps the latest samples for the run folder."""

    def __init__(
        self, guest: str, stream: LineStream, used: Agent, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.guest = guest
        self.raw: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.abilities: frozenset[Ability] = frozenset()
        self.date_latency_s = 0.0
        """How long starting ``date`` takes in this guest, as its agent measured it."""
        self.precise = True
        """Whether the last reading needed no process start in the guest."""
        self.surest_s = math.inf
        """How sure the surest reading was."""
        self.heard_ns = 0
        """When it answered last, on the host's CLOCK_MONOTONIC; 0: not yet."""
        self._stream = stream
        self._agent = used
        self._clock = clock
        self._told: LineStream | None = None
        """A quicker way to the guest's CLOCK_REALTIME, and to no other clock of it."""
        self._asked = 0
        self._unread: str | None = None
        """How the line begins that ends an answer of several lines which was given up."""
        self._watching = False

    @classmethod
    def open(
        cls,
        shell: GuestShell,
        facts: GuestFacts,
        deadline: Deadline,
        *,
        interpreters: Sequence[str] = INTERPRETERS,
        sudo: bool = False,
        told: LineStream | None = None,
    ) -> Sampler:
        """Start the first agent of ``interpreters`` that works in the guest.

        An interpreter that is there but broken, or silent, is passed over. ``told``, if given,
        answers in place of an agent where none works, else beside it: all but a reading's first
        sample are its. Raises ProbeError if nothing works.
        """
        troubles = []
        for interpreter in (*interpreters, POWERSHELL):
            if interpreter not in facts.interpreters:
                continue
            used = agent(interpreter, sudo=sudo and facts.uid != 0)
            until = deadline.sooner(_START_S)
            sampler = cls(shell.guest, shell.stream(used.command, until), used, deadline.clock)
            try:
                sampler._greet(until)
                sampler.read(1, until)
            except (ProbeError, DeadlineExpired) as error:
                sampler.close()
                if deadline.expired:
                    raise
                troubles.append(f"{interpreter}: {error.message}")
            except HarnessError:
                sampler.close()
                raise
            else:
                sampler._told = told
                return sampler
        if told is not None:
            sampler = cls(shell.guest, told, Agent(GUEST_AGENT, ""), deadline.clock)
            sampler._greet(deadline)
            sampler.read(1, deadline)
            return sampler
        wanted = ", ".join(interpreters)
        raise ProbeError(
            f"has no usable interpreter ({'; '.join(troubles) or f'none of {wanted}'})",
            guest=shell.guest,
            hint=_HINT_SUDO if sudo else "harness needs python3, perl, or a sh with date",
        )

    @classmethod
    def of(cls, guest: str, stream: LineStream, interpreter: str, deadline: Deadline) -> Sampler:
        """Return a sampler of an agent that runs already. Raises ProbeError if it does not work."""
        sampler = cls(guest, stream, Agent(interpreter, ""), deadline.clock)
        until = deadline.sooner(_START_S)
        sampler._greet(until)
        sampler.read(1, until)
        return sampler

    @property
    def interpreter(self) -> str:
        """What the agent runs in, or ``guest-agent`` where there is no clock agent."""
        return self._agent.interpreter

    @property
    def can_step(self) -> bool:
        """Whether ``step`` works."""
        return Ability.STEP in self.abilities

    @property
    def looks_around(self) -> bool:
        """Whether ``look`` works."""
        return Ability.LOOKS in self.abilities

    @property
    def runs_programs(self) -> bool:
        """Whether :mod:`harness.clock.programs` works."""
        return Ability.PROGRAMS in self.abilities

    def read(
        self,
        samples: int,
        deadline: Deadline,
        *,
        enough: Enough = never,
        first: Sample | None = None,
    ) -> ClockReading:
        """The best of ``samples`` exchanges, or of fewer once it is ``enough``.

        ``first`` is one of them, just made, if there is one.

        Raises ProbeError for answers that make no sense or a clock that jumps meanwhile,
        DeadlineExpired or ShellUnreachable for none.
        """
        taken = [first or self._sample(deadline)]
        while len(taken) < samples and not enough(best(taken)):
            taken.append(self._again(taken[0], deadline))
        if not consistent(taken):
            raise ProbeError(_JUMPED, guest=self.guest)
        reading = best(taken)
        self.surest_s = min(self.surest_s, reading.uncertainty_s)
        return reading

    def read_well(
        self,
        samples: int,
        enough_s: float,
        deadline: Deadline,
        *,
        enough: Enough = never,
        first: Sample | None = None,
        busy_s: float = BUSY_S,
    ) -> ClockReading:
        """As ``read``, but again if the uncertainty exceeds ``enough_s``; the surest reading.

        For ``busy_s`` at most where one was surer before.
        """
        busy_until = deadline.sooner(busy_s)
        reading = self.read(samples, deadline, enough=enough, first=first)
        tries = 1
        while reading.uncertainty_s > enough_s and not enough(reading):
            busy = self.surest_s <= enough_s and not busy_until.expired
            bad_luck = tries < _TRIES and reading.uncertainty_s <= _HOPELESS * enough_s
            if not (busy or bad_luck):
                break
            again = self.read(samples, deadline, enough=enough)
            reading = min(reading, again, key=lambda one: one.uncertainty_s)
            tries += 1
        return reading

    def measure_date(self, deadline: Deadline) -> None:
        """Have the guest measure again what starting ``date`` takes, if its clock is set by that.

        While others were logged in to, all waited for the same cores. Raises ProbeError.
        """
        if Ability.DATE in self.abilities:
            self._greet(deadline)

    def step(self, nanoseconds: int, deadline: Deadline) -> None:
        """One relative step of CLOCK_REALTIME, forwards if positive. Raises ProbeError."""
        self._do("s", str(nanoseconds), "the step was refused", deadline)

    def step_foreseen(self, step: ForeseenStep, deadline: Deadline) -> tuple[Sample, Sample | None]:
        """Have the guest step at once if its clock is as foreseen.

        Return its clock as it was before, and since that step; None: it was not stepped. Raises
        ProbeError where the step was refused, or the clock jumped meanwhile: then it may have been
        made or not.
        """
        answer = self._timed(partial(self._ask_foreseen, step), deadline)
        if answer.text.isdecimal() and answer.text.isascii():
            raise refused(self.guest, "the step was refused", answer.text)
        before, *since = self._samples(answer, partial(parse_foreseen, by_ns=step.by_ns))
        if before.guest_sent_ns < before.guest_received_ns:
            raise ProbeError(_JUMPED, guest=self.guest)
        return before, since[0] if since else None

    def _ask_foreseen(self, step: ForeseenStep, deadline: Deadline) -> Answered:
        now_ns = self._clock.realtime_ns()
        window = f"{now_ns + step.lowest_ns} {now_ns + step.highest_ns}"
        return self._ask("f", deadline, f"{step.by_ns} {window}")

    def step_to_ptp(self, target_ns: int, deadline: Deadline) -> None:
        """Step to KVM's PTP clock plus ``target_ns``. Raises ProbeError."""
        self._do("p", str(target_ns), "no step by KVM's PTP clock", deadline)

    def slew(self, ppm: int, nanoseconds: int, deadline: Deadline) -> None:
        """Let the clock run faster by ``ppm`` for so long, and wait for it. Raises ProbeError."""
        self._do("t", f"{ppm} {nanoseconds}", "the slew was refused", deadline)

    def set_second(self, second: int, deadline: Deadline) -> None:
        """Set the clock to a whole second, at once. Raises ProbeError."""
        self._do("d", str(second), "date refused to set the clock", deadline)

    def expect_right(self, deadline: Deadline) -> None:
        """Raise ProbeError, with a hint, if the agent may not set the clock; changes nothing."""
        self._do("a", "", "its clock may not be set by this user", deadline)

    def machine_uuid(self, deadline: Deadline) -> str | None:
        """Return the UUID of the machine as its firmware tells it; None: not to be read."""
        answer = self._ask("u", deadline).text
        return None if answer in ("none", "what") else known_uuid(answer)

    def rtc_s(self, deadline: Deadline) -> float | None:
        """RTC − host CLOCK_REALTIME in seconds, known to ± half a second; None: no RTC to read."""
        if Ability.RTC not in self.abilities:
            return None
        answer = self._ask("c", deadline).text
        if not (answer.isdecimal() and answer.isascii() and len(answer) < 12):
            return None
        return int(answer) + 0.5 - self._clock.realtime_ns() / NS_PER_S

    def ensure_probe(self, deadline: Deadline) -> None:
        """Let the agent watch its own clocks, where it can and does not yet. Raises ProbeError."""
        if Ability.PROBE in self.abilities and not self._watching:
            self._probe(1, deadline)
            self._watching = True

    def end_probe(self, deadline: Deadline) -> ProbeCounts | None:
        """What the probe saw; None where there is none."""
        if not self._watching:
            return None
        self._watching = False
        return self._probe(0, deadline)

    def tell(self, what: str, value: str, deadline: Deadline) -> Answered:
        """Ask what an agent that runs programs is asked, and wait for as long as there is time."""
        return self._ask(what, deadline, value, deadline.remaining_s())

    def look(self, what: str, deadline: Deadline) -> Looked:
        """See :class:`harness.guest.protocol.Looks`; where ``looks_around``."""
        end = secrets.token_hex(8)
        try:
            return self._look(f"{end} {what}", end, deadline)
        except HarnessError:
            self._unread = end
            raise

    def _look(self, question: str, end: str, deadline: Deadline) -> Looked:
        answer = self._ask("l", deadline, question, deadline.remaining_s()).text
        if answer != "lines":
            raise self._nonsense(answer)
        lines: list[str] = []
        left = _MOST_BYTES
        while left > 0:
            line = self._stream.listen(deadline)[0]
            if (status := _status(line, end)) is not None:
                return Looked(tuple(lines), status)
            left -= len(line) + 1
            lines.append(line)
        raise ProbeError("its answer does not end", guest=self.guest)

    def close(self) -> None:
        """End the remote loop; never raises."""
        self._stream.close()

    def _greet(self, deadline: Deadline) -> None:
        """What can it do? Its interpreter may take a while to start."""
        answer = self._ask("h", deadline, within_s=_START_S).text
        word, *said = answer.split() or [""]
        if word != "hello":
            raise self._nonsense(answer)
        self.abilities = frozenset(Ability(one) for one in said if one in set(Ability))
        if found := _LATENCY.search(answer):
            self.date_latency_s = int(found[1]) / NS_PER_S

    def _probe(self, how: int, deadline: Deadline) -> ProbeCounts:
        answer = self._ask("w", deadline, str(how)).text
        try:
            return parse_probe(answer)
        except (ValueError, TypeError) as error:
            raise self._nonsense(answer) from error

    def _do(self, what: str, value: str, problem: str, deadline: Deadline) -> None:
        answer = self._ask(what, deadline, value).text
        if answer not in ("ok", "unknown"):
            raise refused(self.guest, problem, answer)

    def _ask(
        self, what: str, deadline: Deadline, value: str = "", within_s: float = _ANSWER_S
    ) -> Answered:
        """Ask and wait for the answer with our number."""
        self._asked += 1
        until = deadline.sooner(within_s)
        question = f"{what} {self._asked} {value}".strip()
        sent_ns, line, received_ns = self._stream.ask(question, until)
        while self._unread is not None or (number := number_of(line)) != self._asked:
            # An answer to a question that was given up: the next line may be ours.
            if self._unread is not None:
                if _status(line, self._unread) is not None:
                    self._unread = None
            elif number is None or number > self._asked:
                raise self._nonsense(line)
            until.check("listening to the remote loop")
            line, received_ns = self._stream.listen(until)
        self.heard_ns = received_ns
        return Answered(sent_ns, line.partition(" ")[2], received_ns)

    def _sample(self, deadline: Deadline) -> Sample:
        sample = self._exchange(partial(self._ask, "r"), deadline)
        self.precise = sample.guest_sent_ns > sample.guest_received_ns
        return sample

    def _again(self, first: Sample, deadline: Deadline) -> Sample:
        if self._told is None:
            return self._sample(deadline)
        return beside(first, self._exchange(partial(_ask_told, self._told), deadline))

    def _exchange(self, ask: Callable[[Deadline], Answered], deadline: Deadline) -> Sample:
        return self._samples(self._timed(ask, deadline), _one_sample)[0]

    def _timed(self, ask: Callable[[Deadline], Answered], deadline: Deadline) -> Answered:
        """Ask, and make sure that the host's clocks went on meanwhile."""
        suspension = Suspension(self._clock)
        answer = ask(deadline)
        if suspension.seconds() > 0:
            message = "its clock cannot be compared: the host was suspended in between"
            raise ProbeError(message, guest=self.guest)
        return answer

    def _samples(self, answer: Answered, parse: Parse) -> Sequence[Sample]:
        sent = Sent(answer.sent_ns, answer.received_ns, realtime_ahead(self._clock))
        try:
            samples = parse(answer.text, sent)
        except (ValueError, IndexError) as error:
            raise self._nonsense(answer.text) from error
        self.raw.extend(dict(vars(sample)) for sample in samples)
        if not all(sample.possible for sample in samples):
            raise ProbeError(_JUMPED, guest=self.guest)
        return samples

    def _nonsense(self, answer: str) -> ProbeError:
        said = f"its clock agent answers nonsense: {answer[:_SHOWN]!r}"
        return ProbeError(said, guest=self.guest)


def _status(line: str, end: str) -> int | None:
    """The status in a line that ends an answer of several; None: it is another line."""
    first, _, status = line.partition(" ")
    return int(status) if first == end and status.isdecimal() and status.isascii() else None


def _one_sample(answer: str, sent: Sent) -> Sequence[Sample]:
    return (parse_sample(answer, sent),)


def _ask_told(told: LineStream, deadline: Deadline) -> Answered:
    sent_ns, line, received_ns = told.ask("r 0", deadline.sooner(_ANSWER_S))
    return Answered(sent_ns, line.partition(" ")[2], received_ns)
