"""Reading a clock through the agent, with a guest whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from harness.clock import sampling
from harness.clock.agents import agent
from harness.clock.sampling import Sampler
from harness.core.errors import DeadlineExpired, ProbeError
from harness.core.timebase import NS_PER_S, Deadline
from harness.guest.facts import GuestFacts
from harness.guest.protocol import Looked
from harness.testing.agent import FakeAgent, FakeShell, broken, silent
from harness.testing.clock import FakeClock

FACTS = GuestFacts("id", "6.1", "tsc", 0, ("python3", "sh"), None)


@pytest.fixture
def clock():
    return FakeClock()


def sampler_for(fake: FakeAgent, interpreter: str = "python3") -> Sampler:
    return Sampler("web1", fake, agent(interpreter), fake.clock)


def later(clock: FakeClock) -> Deadline:
    return Deadline.after(60, clock)


@pytest.mark.parametrize("offset_s", [-30.0, -0.004, 0.0, 3600.0])
@pytest.mark.parametrize(("there_s", "back_s"), [(0.001, 0.001), (0.3, 0.3), (0.3, 0.001)])
def test_latency_does_not_move_the_estimate_beyond_its_uncertainty(
    clock, offset_s, there_s, back_s
):
    """Neither 300 ms both ways nor 300 ms one way."""
    fake = FakeAgent(clock, offset_s, there_s, back_s)
    reading = sampler_for(fake).read(4, later(clock))
    assert abs(reading.offset_s - offset_s) <= reading.uncertainty_s
    assert reading.uncertainty_s == pytest.approx((there_s + back_s) / 2, abs=1e-6)


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "",
            "x",
            "1",
            "1 ",
            "1 2",
            "1 1 2",
            "999 1 1 1 1",
            "1 nonsense 2 3 4",
            "ok",
            "hello step",
        ),
        *("1 adjtimex 4.2 no time here", "1 timer 5 6", "1 timer a b c 1.00", "1 date 4.2 x.y"),
        *(
            "1 1 1 1 -1",
            "1 99999999999999999999999999 1 1 1",
            "\u0661 1 1 1 1",
            "1 timer 9 9 1 1.0",
        ),
        *("1 moon 4.2 1800000000", "1 seconds x 1800000000", "\ufffd\ufffd"),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_naming_the_guest(clock, answer):
    """Garbage, half a line, an answer to another question: never a reading."""
    fake = FakeAgent(clock)
    fake.answer = lambda line: answer
    with pytest.raises(ProbeError, match="web1: its clock agent answers nonsense"):
        sampler_for(fake).read(1, later(clock))


def test_a_late_answer_to_an_earlier_question_is_not_taken_for_this_one(clock):
    """Answers carry the number of their question."""
    fake = FakeAgent(clock, offset_s=-5.0)
    sampler = sampler_for(fake)
    sampler.read(1, later(clock))
    stale = iter(["1 1 1 1 1"])
    fake.answer = lambda line: next(stale, None) or fake._answer(line)
    assert sampler.read(1, later(clock)).offset_s == pytest.approx(-5.0, abs=0.01)


class HeldUp(FakeClock):
    """Who looks at CLOCK_REALTIME waits for a core after it, for 4 ms, so many times."""

    times = 0

    def realtime_ns(self) -> int:
        seen_ns = super().realtime_ns()
        if self.times > 0:
            self.times -= 1
            self.advance(0.004)
        return seen_ns


@pytest.mark.parametrize("times", [0, 1, 3, 1000])
def test_who_is_held_up_between_two_looks_at_the_hosts_clocks_says_nothing_wrong(times):
    """The guest's clock is right; a single sample has to know how well it knows that."""
    clock = HeldUp()
    fake = FakeAgent(clock)

    def answer(line: str) -> str:
        said = fake._answer(line)
        clock.times = times
        return said

    fake.answer = answer
    reading = sampler_for(fake).read(1, later(clock))
    assert abs(reading.offset_s) <= reading.uncertainty_s
    assert reading.uncertainty_s == pytest.approx(0.003 if times == 1000 else 0.001, abs=1e-6)


class Lines:
    """A LineStream that says what is in ``said``, a line at a time; then nothing in time."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.said: list[str] = []
        self.answer: Callable[[str], list[str]] = lambda line: []

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        self.said += self.answer(line)
        return self.clock.monotonic_ns(), *self.listen(deadline)

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        if not self.said:
            raise DeadlineExpired("listening to the remote loop", 10.0, guest="web1")
        return self.said.pop(0), self.clock.monotonic_ns()

    def close(self) -> None:
        pass


@pytest.fixture
def looking(clock):
    """A sampler whose agent looks around, and what it talks to."""
    lines = Lines(clock)
    return Sampler("web1", lines, agent("sh"), clock), lines


def seen(*lines: str, status: str = "0") -> Callable[[str], list[str]]:
    """What an agent answers that sees these lines."""
    return lambda asked: [
        f"{asked.split(' ')[1]} lines",
        *lines,
        f"{asked.split(' ')[2]} {status}",
    ]


def test_a_look_ends_with_its_own_line_whatever_is_to_be_seen(clock, looking):
    """A log may hold what looks like an answer, or like an end."""
    sampler, lines = looking
    log = ("1 lines", "0123456789abcdef 0", "", ".", "2 ok")
    lines.answer = seen(*log, status="3")
    assert sampler.look("log", later(clock)) == Looked(log, 3)
    lines.answer = lambda asked: ["2 ok"]
    sampler.step(1, later(clock))


@pytest.mark.parametrize("come", [0, 1, 2])
def test_a_look_that_was_given_up_is_not_taken_for_an_answer_when_it_comes(clock, looking, come):
    """Not for that of the clock: neither the lines that are left of it, nor how it begins."""
    sampler, lines = looking
    late: list[str] = []

    def slow(asked: str) -> list[str]:
        whole = seen("2 failed", "[ 1.0] a log")(asked)
        late.extend(whole[come:])
        return whole[:come]

    lines.answer = slow
    with pytest.raises(DeadlineExpired):
        sampler.look("log", later(clock))
    lines.answer = lambda asked: [*late, "2 ok"]
    sampler.step(1, later(clock))
    lines.answer = seen("x")
    assert sampler.look("log", later(clock)) == Looked(("x",), 0)


def test_a_look_without_end_is_an_error(clock, looking, monkeypatch):
    """Its guest may say what it likes, and for as long."""
    monkeypatch.setattr(sampling, "_MOST_BYTES", 100)
    sampler, lines = looking
    lines.answer = lambda asked: [f"{asked.split(' ')[1]} lines", *(["x" * 30] * 9)]
    with pytest.raises(ProbeError, match="web1: its answer does not end"):
        sampler.look("log", later(clock))


@pytest.mark.parametrize("end", ["x", "-1", "", "٣"])
def test_an_end_without_a_status_is_none(clock, looking, end):
    """And so a line of what is seen; then nothing comes."""
    sampler, lines = looking
    lines.answer = seen("a", status=end)
    with pytest.raises(DeadlineExpired):
        sampler.look("log", later(clock))


def test_an_agent_that_cannot_look_says_nothing_of_what_is_there(clock, looking):
    """An older one, or a guest that answers anything."""
    sampler, lines = looking
    lines.answer = lambda asked: ["1 what"]
    with pytest.raises(ProbeError, match="nonsense"):
        sampler.look("log", later(clock))


def test_a_clock_that_jumps_while_it_is_read_is_an_error(clock):
    """No reading is better than a reading of two different clocks."""
    fake = FakeAgent(clock)

    def jumping(line):
        fake.offset_s += 1.0
        return fake._answer(line)

    fake.answer = jumping
    with pytest.raises(ProbeError, match="jumped"):
        sampler_for(fake).read(2, later(clock))


def test_a_clock_that_is_slewed_while_it_is_read_does_not_jump(clock):
    """A time daemon may let it run a tenth faster at most."""
    fake = FakeAgent(clock)

    def slewed(line):
        fake.offset_s += 0.09 * (fake.there_s + fake.back_s)
        return fake._answer(line)

    fake.answer = slewed
    assert sampler_for(fake).read(30, later(clock)).samples == 30


@pytest.mark.parametrize("bad", [broken, silent], ids=["broken", "silent"])
def test_an_interpreter_that_does_not_work_is_passed_over(clock, bad):
    """python3 without ctypes, or one that hangs: the shell does the work."""
    useless, good = FakeAgent(clock), FakeAgent(clock)
    useless.answer = bad
    shell = FakeShell(useless, good)
    assert Sampler.open(shell, FACTS, later(clock)).interpreter == "sh"
    assert useless.closed


def test_without_any_working_interpreter_the_guest_is_refused(clock):
    """Each one's trouble is told."""
    agents = [FakeAgent(clock), FakeAgent(clock)]
    for fake in agents:
        fake.answer = broken
    with pytest.raises(ProbeError, match="no usable interpreter.*python3.*sh"):
        Sampler.open(FakeShell(*agents), FACTS, later(clock))


def test_a_guest_that_answers_nothing_at_all_is_an_error_in_time(clock):
    """Every question ends by itself, and names the guest's trouble."""
    fake = FakeAgent(clock)
    sampler = sampler_for(fake)
    fake.answer = silent
    with pytest.raises(DeadlineExpired):
        sampler.read(1, later(clock))
    assert not later(clock).expired


def test_the_order_of_interpreters_is_a_setting(clock):
    """One that is not in the guest, or not wanted, is not started."""
    facts = GuestFacts("id", "6.1", "tsc", 0, ("python3", "perl", "sh"), None)
    shell = FakeShell(FakeAgent(clock))
    found = Sampler.open(shell, facts, later(clock), interpreters=("perl", "python3"))
    assert found.interpreter == "perl"
    with pytest.raises(ProbeError, match="no usable interpreter .none of perl"):
        Sampler.open(FakeShell(), FACTS, later(clock), interpreters=("perl",))


@pytest.mark.parametrize("interpreter", ["python3", "perl", "sh"])
def test_sudo_is_asked_for_no_password_and_only_if_configured(interpreter):
    """Nobody is there to type one."""
    assert "sudo" not in agent(interpreter).command.split(" ", 4)[:4]
    assert agent(interpreter, sudo=True).command.startswith("exec sudo -n ")


def _always(answer: str, line: str) -> str:
    return answer


def test_the_shell_agents_readings_are_understood(clock):
    """What shells tell, timer_list, adjtimex, date and whole seconds, each with its resolution."""
    fake = FakeAgent(clock, there_s=0.0, back_s=0.0)
    readings = {
        "epoch 1800000000.250000 50000000000 1800000000.250000 50.00": (0.25, 1e-6),
        "epoch 1800000000.250000 - 1800000000.250000 50.00": (0.25, 1e-6),
        "timer 50000000000 1799999950250000000 50000000000 50.00": (0.25, 1e-9),
        "adjtimex 10.50 mode: 0 time.tv_sec: 1800000000 time.tv_usec: 250000 x": (0.25, 1e-6),
        "date 10.50 1800000000.250000000": (0.25, 1e-9),
        "seconds 10.50 1800000000": (0.5, 0.5),
    }
    start_s = clock.realtime_ns() / 1e9
    for number, (text, (expected_s, uncertainty_s)) in enumerate(readings.items(), start=1):
        fake.answer = partial(_always, f"{number} {text}")
        sampler = sampler_for(fake, "sh")
        sampler._asked = number - 1
        reading = sampler.read(1, later(clock))
        assert reading.offset_s == pytest.approx(1_800_000_000 + expected_s - start_s, abs=1e-6)
        assert reading.uncertainty_s == pytest.approx(uncertainty_s, rel=0.01)


def test_a_reading_that_is_not_sure_enough_is_taken_again(clock):
    """The surest of three counts; a way that is hopeless is not walked again."""
    fake = FakeAgent(clock, there_s=0.004, back_s=0.004)
    sampler = sampler_for(fake)

    def calmer(line):
        fake.there_s = fake.back_s = max(0.001, fake.there_s - 0.001)
        return fake._answer(line)

    fake.answer = calmer
    assert sampler.read_well(1, 0.0015, later(clock)).uncertainty_s < 0.003
    assert len(fake.asked) == 3
    fake.there_s = fake.back_s = 0.3
    fake.answer = fake._answer
    sampler.read_well(1, 0.0015, later(clock))
    assert len(fake.asked) == 4


def test_a_guest_that_is_only_busy_is_asked_until_it_has_time(clock):
    """One that was read surely before is busy, not far away: worth five seconds, and no more."""
    fake = FakeAgent(clock)
    sampler = sampler_for(fake)

    def busy_until(free_ns):
        def answer(line):
            fake.there_s = fake.back_s = 0.001 if clock.monotonic_ns() >= free_ns else 0.1
            return fake._answer(line)

        return answer

    assert sampler.read(2, later(clock)).uncertainty_s < 0.005
    began_ns = clock.monotonic_ns()
    fake.answer = busy_until(began_ns + 3 * NS_PER_S)
    assert sampler.read_well(8, 0.005, later(clock)).uncertainty_s < 0.005
    began_ns = clock.monotonic_ns()
    fake.answer = busy_until(began_ns + 3600 * NS_PER_S)
    assert sampler.read_well(8, 0.005, later(clock)).uncertainty_s > 0.05
    assert 5 <= (clock.monotonic_ns() - began_ns) / NS_PER_S < 7
    began_ns = clock.monotonic_ns()
    sampler.read_well(8, 0.005, later(clock), busy_s=1.0)
    assert (clock.monotonic_ns() - began_ns) / NS_PER_S < 3.5, "nor for so long while others wait"


def test_the_memory_of_samples_is_bounded(clock, monkeypatch):
    """A long watch must not grow without limit."""
    monkeypatch.setattr(sampling, "_KEPT", 64)
    sampler = sampler_for(FakeAgent(clock))
    sampler.read(100, Deadline.after(3600, clock))
    assert len(sampler.raw) == 64


def test_the_rtc_is_read_where_there_is_one(clock):
    """Whole seconds, so half a second is as good as it gets."""
    fake = FakeAgent(clock, offset_s=-5.0)
    sampler = Sampler.open(FakeShell(fake), FACTS, later(clock))
    assert sampler.rtc_s(later(clock)) == pytest.approx(-5.0, abs=0.51)
    fake.answer = lambda line: f"{line.split(' ')[1]} none"
    assert sampler.rtc_s(later(clock)) is None


def sure_to(uncertainty_s: float) -> sampling.Enough:
    """As the policy has it: never by one sample."""
    return lambda reading: reading.samples > 1 and reading.uncertainty_s <= uncertainty_s


def test_a_reading_ends_early_once_it_is_sure_enough(clock):
    """After each sample it is asked whether that is enough; not at all if nothing was asked for."""
    fake = FakeAgent(clock, there_s=0.0004, back_s=0.0004)
    sampler = Sampler("web1", fake, agent("python3"), clock)
    sampler.read(8, Deadline.after(10, clock), enough=sure_to(0.001))
    assert len(fake.asked) == 2
    sampler.read(8, Deadline.after(10, clock), enough=sure_to(0.0001))
    assert len(fake.asked) == 2 + 8
    sampler.read(8, Deadline.after(10, clock))
    assert len(fake.asked) == 2 + 8 + 8


def test_a_turnaround_longer_than_the_whole_exchange_is_refused(clock):
    """The guest's clock was set while it answered; that was a reading of ± 1 ns, and it won."""
    fake = FakeAgent(clock, there_s=0.001, back_s=0.001)

    def jumps(line):
        number, received_ns, sent_ns, *rest = fake._answer(line).split()
        return " ".join([number, received_ns, str(int(sent_ns) + NS_PER_S), *rest])

    fake.answer = jumps
    with pytest.raises(ProbeError, match="jumped"):
        sampler_for(fake).read(1, later(clock))


def test_a_host_that_is_suspended_during_an_exchange_compares_nothing(clock):
    """The trip looks short, by CLOCK_MONOTONIC, and the offset is as wrong as it slept."""
    fake = FakeAgent(clock)

    def sleeps(line):
        clock.suspend(30)
        return fake._answer(line)

    fake.answer = sleeps
    with pytest.raises(ProbeError, match="the host was suspended"):
        sampler_for(fake).read(1, later(clock))
