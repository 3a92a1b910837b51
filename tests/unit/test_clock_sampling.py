"""Reading and correcting a clock through the agent, with a guest whose truth is known."""

from __future__ import annotations

import pytest

from harness.clock.agents import agent
from harness.clock.correction import CorrectionPolicy, DateAtSecond, correct
from harness.clock.sampling import Sampler
from harness.errors import ProbeError
from harness.guest.facts import GuestFacts
from harness.timebase import Deadline
from tests.fakes.agent import FakeAgent, FakeShell, broken
from tests.fakes.clock import FakeClock

FACTS = GuestFacts("id", "6.1", "tsc", 0, ("python3", "sh"), None)
POLICY = CorrectionPolicy(tolerance_s=0.010)


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
    ["", "x", "1", "1 2", "999 1 1 1 1", "1 nonsense 2 3 4", "1 adjtimex 4.2 no time here", "ok"],
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


def test_a_clock_that_jumps_while_it_is_read_is_an_error(clock):
    """No reading is better than a reading of two different clocks."""
    fake = FakeAgent(clock)

    def jumping(line):
        fake.offset_s += 1.0
        return fake._answer(line)

    fake.answer = jumping
    with pytest.raises(ProbeError, match="jumped"):
        sampler_for(fake).read(2, later(clock))


def test_a_broken_interpreter_is_passed_over(clock):
    """python3 without ctypes: the shell does the work."""
    bad, good = FakeAgent(clock), FakeAgent(clock)
    bad.answer = broken
    shell = FakeShell(bad, good)
    assert Sampler.open(shell, FACTS, later(clock), clock).interpreter == "sh"
    assert bad.closed


def test_without_any_working_interpreter_the_guest_is_refused(clock):
    """Each one's trouble is told."""
    agents = [FakeAgent(clock), FakeAgent(clock)]
    for fake in agents:
        fake.answer = broken
    with pytest.raises(ProbeError, match="no usable interpreter.*python3.*sh"):
        Sampler.open(FakeShell(*agents), FACTS, later(clock), clock)


def test_the_shell_agents_readings_are_understood(clock):
    """busybox adjtimex, GNU date and whole seconds, each with its own resolution."""
    fake = FakeAgent(clock, there_s=0.0, back_s=0.0)
    readings = {
        "adjtimex 10.50 mode: 0 time.tv_sec: 1800000000 time.tv_usec: 250000 x": (0.25, 1e-6),
        "date 10.50 1800000000.250000000": (0.25, 1e-9),
        "seconds 10.50 1800000000": (0.5, 0.5),
    }
    start_s = clock.realtime_ns() / 1e9
    for number, (text, (expected_s, uncertainty_s)) in enumerate(readings.items(), start=1):
        fake.answer = lambda line, number=number, text=text: f"{number} {text}"
        sampler = sampler_for(fake, "sh")
        sampler._asked = number - 1
        reading = sampler.read(1, later(clock))
        assert reading.offset_s == pytest.approx(1_800_000_000 + expected_s - start_s, abs=1e-6)
        assert reading.uncertainty_s == pytest.approx(uncertainty_s, rel=0.01)


@pytest.mark.parametrize("offset_s", [-5.003, -3600.0])
def test_a_slow_clock_is_stepped_forward_once(clock, offset_s):
    """One relative step, verified."""
    fake = FakeAgent(clock, offset_s)
    correction = correct(sampler_for(fake), POLICY, later(clock))
    assert (correction.method, correction.refused) == ("relative-step", None)
    assert abs(fake.offset_s) < 0.001
    assert len([line for line in fake.asked if line.startswith("s ")]) == 1


def test_a_clock_within_tolerance_is_left_alone(clock):
    """Nothing is done where nothing is wrong."""
    fake = FakeAgent(clock, 0.004)
    correction = correct(sampler_for(fake), POLICY, later(clock))
    assert (correction.method, correction.refused) == (None, None)
    assert fake.offset_s == 0.004


def test_a_fast_clock_is_set_back_only_if_that_is_allowed(clock):
    """Forward only, unless told otherwise; the refusal says so."""
    fake = FakeAgent(clock, 3.0)
    refused = correct(sampler_for(fake), POLICY, later(clock))
    assert "--allow-backward" in refused.refused
    assert fake.offset_s == 3.0
    allowed = CorrectionPolicy(tolerance_s=0.010, allow_backward=True)
    assert correct(sampler_for(fake), allowed, later(clock)).method == "relative-step"
    assert abs(fake.offset_s) < 0.001


def test_beyond_the_ceiling_a_person_is_asked(clock):
    """A guest that is years off has another problem than a pause."""
    fake = FakeAgent(clock, -10 * 365 * 86_400.0)
    assert "a person should look" in correct(sampler_for(fake), POLICY, later(clock)).refused


def test_nothing_is_corrected_on_a_reading_worse_than_the_tolerance(clock):
    """300 ms of latency cannot justify a step to 10 ms."""
    fake = FakeAgent(clock, -1.0, there_s=0.3, back_s=0.3)
    correction = correct(sampler_for(fake), POLICY, later(clock))
    assert "only known to" in correction.refused
    assert fake.offset_s == -1.0


def test_a_step_that_is_refused_names_the_missing_right(clock):
    """EPERM in the guest."""
    fake = FakeAgent(clock, -5.0)
    fake.answer = lambda line: "1" if line.startswith("s ") else fake._answer(line)
    correction = correct(sampler_for(fake), POLICY, later(clock))
    assert correction.method is None
    assert "EPERM" in correction.refused


def test_a_clock_that_does_not_stay_put_is_not_called_corrected(clock):
    """Somebody in the guest undoes every step."""
    fake = FakeAgent(clock, -5.0)
    fake.answer = lambda line: "ok" if line.startswith("s ") else fake._answer(line)
    correction = correct(sampler_for(fake), POLICY, later(clock))
    assert correction.method is None
    assert correction.refused.startswith("not corrected: relative-step")
    assert len(correction.attempts) == 3


def test_date_is_sent_so_that_it_takes_effect_at_the_second(clock):
    """Half the round trip early; what is left is the asymmetry."""
    fake = FakeAgent(clock, -5.0, there_s=0.004, back_s=0.002)
    sampler = sampler_for(fake)
    reading = sampler.read(4, later(clock))
    DateAtSecond(clock).correct(sampler, reading, later(clock))
    assert abs(fake.offset_s) <= reading.uncertainty_s
