"""Putting a clock right: what is tried, in which order, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.clock.agent_time import AgentTime
from harness.clock.agents import Ability, agent
from harness.clock.correction import correct
from harness.clock.methods import METHODS
from harness.clock.methods.protocol import Change
from harness.clock.methods.relative import slew_plan
from harness.clock.policy import CorrectionPolicy
from harness.clock.sampling import Sampler
from harness.clock.target import Reach
from harness.clock.turn import Turn
from harness.core.errors import CommandFailed, HypervisorError
from harness.core.records import Outcome
from harness.core.timebase import NS_PER_S, Deadline
from harness.guest.protocol import Completed, Way
from harness.testing.agent import FakeAgent, silent
from harness.testing.clock import FakeClock

POLICY = CorrectionPolicy(tolerance_s=0.010)
BACKWARD = CorrectionPolicy(tolerance_s=0.010, allow_backward=True)
SHELL = "date rtc"


@pytest.fixture
def clock():
    return FakeClock()


class Chronyc:
    """A shell in which chronyc says what it is told to; counts what it was asked."""

    guest = "web1"
    way = Way("web1")

    def __init__(self, says: str = "200 OK", returncode: int = 0, then=lambda: None) -> None:
        self.commands: list[str] = []
        self.says, self.returncode, self.then = says, returncode, then

    def run(self, command, deadline, *, check=True):
        self.commands.append(command)
        self.then()
        if self.returncode:
            raise CommandFailed("failed", returncode=self.returncode, stdout=self.says)
        return Completed(0, self.says, "")


class QemuAgent:
    """A guest agent whose clock is the fake guest's, and whose calls take their time."""

    def __init__(
        self,
        fake: FakeAgent,
        late_s: float = 0.2,
        refuses: bool = False,
        answers_in_s: float = 0.0,
    ) -> None:
        self.fake, self.late_s, self.refuses, self.calls = fake, late_s, refuses, 0
        self.answers_in_s = answers_in_s

    def get(self, deadline):
        sent = self.fake.clock.realtime_ns()
        self.fake.clock.advance(self.answers_in_s)
        return AgentTime(sent, self.fake.now_ns(), self.fake.clock.realtime_ns())

    def set(self, realtime_ns, deadline):
        self.calls += 1
        if self.refuses:
            raise HypervisorError("agent not connected", operation="setting", guest="web1")
        self.fake.clock.advance(self.late_s)
        self.fake.offset_s = (realtime_ns - self.fake.clock.realtime_ns()) / NS_PER_S


def reach(fake: FakeAgent, interpreter: str = "python3", **more) -> Reach:
    sampler = Sampler("web1", fake, agent(interpreter), fake.clock)
    sampler._greet(later(fake.clock))
    return Reach(sampler, clock=fake.clock, **more)


def later(clock: FakeClock) -> Deadline:
    return Deadline.after(120, clock)


def steps(fake: FakeAgent, what: str = "s") -> int:
    return len([line for line in fake.asked if line.startswith(f"{what} ")])


class Told(Turn):
    """A turn that is told when the clock is right, and comes again ``later`` so many times."""

    def __init__(
        self,
        when_right: Callable[[], None] = lambda: None,
        beside: int = 0,
        when_later: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.right = when_right
        self._beside = beside
        self._when_later = list(when_later)

    @property
    def beside(self) -> int:
        return self._beside

    def later(self) -> bool:
        if not self._when_later:
            return False
        self._when_later.pop(0)()
        return True


@pytest.mark.parametrize("offset_s", [-5.003, -3600.0])
def test_a_slow_clock_is_stepped_forward_once(clock, offset_s):
    """One relative step, verified."""
    fake = FakeAgent(clock, offset_s)
    correction = correct(reach(fake), POLICY, later(clock))
    assert (correction.method, correction.refused) == ("relative-step", None)
    assert abs(fake.offset_s) < 0.001
    assert steps(fake) == 1
    assert correction.verified_ns is not None


def test_it_says_when_the_clock_is_right_before_it_does_what_is_less_urgent(clock):
    """Others wait for their turn while a daemon is told and the last look is taken."""
    fake, asked = FakeAgent(clock, -5.0), []
    correct(reach(fake, turn=Told(lambda: asked.append(len(fake.asked)))), POLICY, later(clock))
    assert len(asked) == 1
    assert abs(fake.offset_s) < 0.001
    assert len(fake.asked) > asked[0]
    right, told = FakeAgent(clock), []
    correct(reach(right, turn=Told(lambda: told.append(True))), POLICY, later(clock))
    assert told == [True]
    refused = FakeAgent(clock, 3.0)
    correct(reach(refused, turn=Told(lambda: told.append(False))), POLICY, later(clock))
    assert told == [True]


def test_of_a_wrong_clock_no_more_is_read_than_it_takes_to_be_right(clock):
    """Each sample of a busy guest, ± 3 ms here, is time in which the clocks of others are wrong."""
    fake, asked = FakeAgent(clock, -5.0, there_s=0.003, back_s=0.003), []
    found = reach(fake, turn=Told(lambda: asked.extend(fake.asked[before:])))
    first = found.sampler.read(1, later(clock))
    before = len(fake.asked)
    done = correct(found, POLICY, later(clock), first)
    assert [line[0] for line in asked] == ["s", "r", "r"]
    assert POLICY.judge(done.after) is Outcome.PASS
    assert done.after.samples == POLICY.samples, "how right it got is read closely all the same"


def miss(fake: FakeAgent, *by_s: float) -> None:
    """Have the first steps of a clock end so far off, and those after them where they should."""
    late = iter(by_s)

    def misses(line):
        answer = fake._answer(line)
        if line.startswith("s "):
            fake.offset_s += next(late, 0.0)
        return answer

    fake.answer = misses


@pytest.mark.parametrize(
    ("left_s", "abilities", "policy", "exact"),
    [
        (-0.004, "step slew", POLICY, True),
        (0.004, "step slew", POLICY, True),
        (-0.004, "step", POLICY, True),
        (0.004, "step", POLICY, False),
        (0.004, "step", BACKWARD, True),
        (-0.0008, "step slew", POLICY, False),
    ],
)
def test_what_is_left_within_the_tolerance_is_taken_off_when_there_is_time(
    clock, left_s, abilities, policy, exact
):
    """Once, without a step back that is not allowed; not what is small; it is no news to others."""
    fake, right = FakeAgent(clock, -5.0, abilities=abilities), []
    miss(fake, left_s)
    done = correct(reach(fake, turn=Told(lambda: right.append(True))), policy, later(clock))
    assert (done.refused, right) == (None, [True])
    assert abs(fake.offset_s) == pytest.approx(0.0 if exact else abs(left_s), abs=0.0005)
    assert done.after.offset_s == pytest.approx(fake.offset_s, abs=done.after.uncertainty_s)
    assert len(done.attempts) == 1 + exact


def test_a_daemon_is_told_once_when_the_clock_is_as_right_as_it_gets(clock):
    """After what was left was taken off, which is a step as well."""
    fake = FakeAgent(clock, -5.0)
    miss(fake, -0.004)
    shell = Chronyc(then=lambda: asked.append(steps(fake)))
    asked: list[int] = []
    done = correct(reach(fake, shell=shell, time_daemon="chronyd"), POLICY, later(clock))
    assert (done.refused, asked) == (None, [2])


def test_a_method_is_tried_for_as_long_as_it_brings_the_clock_nearer(clock):
    """A guest that has date only, and is busier and busier: what each was late is not enough."""
    fake = FakeAgent(clock, -5.0, abilities="date")
    late_s = iter([0.10, 0.17, 0.22, 0.255, 0.275, 0.285])

    def late(line):
        answer = fake._answer(line)
        if line.startswith("d "):
            fake.offset_s -= next(late_s)
        return answer

    fake.answer = late
    policy = CorrectionPolicy(tolerance_s=0.020)
    done = correct(reach(fake, "sh"), policy, later(clock))
    assert (done.refused, len(done.attempts)) == (None, 6)
    assert abs(fake.offset_s) <= 0.020


def test_a_clock_within_tolerance_is_left_alone(clock):
    """Nothing is done where nothing is wrong."""
    fake = FakeAgent(clock, 0.004)
    correction = correct(reach(fake), POLICY, later(clock))
    assert (correction.method, correction.refused, fake.offset_s) == (None, None, 0.004)


@pytest.mark.parametrize("offset_s", [0.030, -0.030])
def test_a_small_offset_is_slewed_also_where_stepping_back_is_not_allowed(clock, offset_s):
    """A slew never lets a clock go backwards."""
    fake = FakeAgent(clock, offset_s)
    correction = correct(reach(fake), POLICY, later(clock))
    assert (correction.method, correction.refused) == ("slew", None)
    assert abs(fake.offset_s) < 0.001
    assert steps(fake) == 0


def test_a_guest_that_cannot_be_slewed_is_stepped_if_that_is_allowed(clock):
    """Forwards always, back only if allowed, and said."""
    slow = FakeAgent(clock, -0.030, abilities="step")
    assert correct(reach(slow), POLICY, later(clock)).method == "relative-step"
    fast = FakeAgent(clock, 0.030, abilities="step")
    assert "--allow-backward" in correct(reach(fast), POLICY, later(clock)).refused
    assert fast.offset_s == 0.030
    assert correct(reach(fast), BACKWARD, later(clock)).method == "relative-step"


def test_a_fast_clock_is_set_back_only_if_that_is_allowed(clock):
    """Forward only, unless told otherwise; the refusal says so."""
    fake = FakeAgent(clock, 3.0)
    refused = correct(reach(fake), POLICY, later(clock))
    assert "--allow-backward" in refused.refused
    assert (fake.offset_s, refused.verified_ns) == (3.0, None)
    assert correct(reach(fake), BACKWARD, later(clock)).method == "relative-step"
    assert abs(fake.offset_s) < 0.001


def test_a_second_attempt_does_not_step_back_what_the_first_did_too_much(clock):
    """The refusal is for every attempt, not for the first only."""
    fake = FakeAgent(clock, -5.0)

    def overshoots(line):
        answer = fake._answer(line)
        if line.startswith("s "):
            fake.offset_s += 1.0
        return answer

    fake.answer = overshoots
    correction = correct(reach(fake), POLICY, later(clock))
    assert fake.offset_s == pytest.approx(1.0, abs=0.001)
    assert "not allowed" in correction.refused
    assert "relative-step: 1.000" in correction.refused
    assert steps(fake) == 1


def test_what_was_tried_before_a_refusal_is_told_in_its_order(clock):
    """The way to the next person who looks."""
    fake = FakeAgent(clock, -5.0)
    miss(fake, -1.0, 2.0)
    refused = correct(reach(fake), POLICY, later(clock)).refused
    assert refused.endswith("tried: relative-step: 1.000 s slow; relative-step: 2.000 s fast")


@settings(max_examples=60)
@given(
    st.floats(-100, 100),
    st.lists(st.floats(-3, 3), min_size=1, max_size=6),
    st.floats(0.0005, 0.004),
)
def test_no_sequence_of_attempts_ever_steps_back(offset_s, errors, way_s):
    """Whatever each step does wrong: without permission none goes backwards."""
    clock = FakeClock()
    fake = FakeAgent(clock, offset_s, way_s, way_s)
    wrong = iter(errors)

    def clumsy(line):
        if line.startswith("s "):
            assert int(line.split(" ")[2]) >= 0
            fake.offset_s += next(wrong, 0.0)
        return fake._answer(line)

    fake.answer = clumsy
    correction = correct(reach(fake), POLICY, later(clock))
    right = abs(fake.offset_s) <= POLICY.tolerance_s
    assert (correction.refused is None) <= right


def test_a_clock_is_put_back_to_the_offset_it_had(clock):
    """Slow by 2 s before the pause, slow by 7 s after it: 5 s are taken off."""
    fake = FakeAgent(clock, -7.0)
    policy = CorrectionPolicy(tolerance_s=0.010, target_s=-2.0, target_uncertainty_s=0.001)
    assert correct(reach(fake), policy, later(clock)).refused is None
    assert fake.offset_s == pytest.approx(-2.0, abs=0.001)


def test_beyond_the_ceiling_a_person_is_asked(clock):
    """A guest that is years off has another problem than a pause."""
    fake = FakeAgent(clock, -10 * 365 * 86_400.0)
    assert "a person should look" in correct(reach(fake), POLICY, later(clock)).refused
    assert steps(fake) == 0


def test_a_clock_that_may_be_right_for_all_one_can_tell_is_left_alone(clock):
    """300 ms of latency cannot tell 0.5 s from right."""
    fake = FakeAgent(clock, -0.5, there_s=0.3, back_s=0.3)
    left = correct(reach(fake), POLICY, later(clock))
    assert left.refused == "only known to ± 300.00 ms, the tolerance is 10 ms"
    assert (left.method, left.attempts, fake.offset_s) == (None, (), -0.5)


@pytest.mark.parametrize(("there_s", "back_s"), [(0.017, 0.017), (0.034, 0.0), (0.0, 0.034)])
@pytest.mark.parametrize("daemon", [None, "chronyd"])
def test_over_a_slow_way_a_clock_is_set_as_right_as_can_be_told(clock, there_s, back_s, daemon):
    """What is left is doubt: said with both figures, and with what was done."""
    fake = FakeAgent(clock, -4.005, there_s, back_s)
    shell = Chronyc()
    done = correct(reach(fake, shell=shell, time_daemon=daemon), POLICY, later(clock))
    assert abs(fake.offset_s) <= 0.0171
    assert done.method == (daemon or "relative-step")
    assert len(shell.commands) == (daemon is not None), "or the daemon undoes the step"
    assert "not corrected" not in done.refused
    assert f"set by {done.method} (it was " in done.refused
    assert "only known to ± 17.00 ms, the tolerance is 10 ms" in done.refused
    assert POLICY.judge(done.after) is Outcome.ERROR
    assert done.verified_ns is None
    assert steps(fake) == 1


@pytest.mark.parametrize("ahead_s", [0.0628, 0.24])
@pytest.mark.parametrize("slew_below_s", [0.05, 0.0])
def test_what_its_own_step_did_too_much_is_slewed_back(clock, ahead_s, slew_below_s):
    """A busy guest took less time than before to set its clock."""
    fake = FakeAgent(clock, -5.0, abilities="date slew")
    fake.answer = lambda line: _ahead(fake, line, ahead_s)
    policy = CorrectionPolicy(tolerance_s=0.020, slew_below_s=slew_below_s)
    done = correct(reach(fake, "sh"), policy, later(clock))
    assert (done.method, done.refused) == ("slew", None)
    assert abs(fake.offset_s) <= 0.020
    assert [a.partition(":")[0] for a in done.attempts][:2] == ["date-at-second", "slew"]


def test_an_overshoot_that_cannot_be_slewed_back_is_not_called_not_corrected(clock):
    """It was set, to what it is now, and is still not right."""
    fake = FakeAgent(clock, -5.0, abilities="date")
    fake.answer = lambda line: _ahead(fake, line, 0.0628)
    done = correct(reach(fake, "sh"), POLICY, later(clock))
    assert (done.method, done.verified_ns) == ("date-at-second", None)
    assert done.refused.startswith("set by date-at-second (it was 5.000 s slow); still not right")
    assert "not corrected" not in done.refused
    assert fake.offset_s == pytest.approx(0.0628, abs=0.002)


def _ahead(fake: FakeAgent, line: str, ahead_s: float) -> str:
    answer = fake._answer(line)
    if line.startswith("d "):
        fake.offset_s += ahead_s
    return answer


@pytest.mark.parametrize("answer", ["1", "failed date: cannot set date: Operation not permitted"])
def test_a_step_that_is_refused_names_the_missing_right_and_the_mend(clock, answer):
    """EPERM in the guest; the words reach the person."""
    fake = FakeAgent(clock, -5.0, abilities="step")

    def refuses(line):
        what, number = line.split(" ")[:2]
        return f"{number} {answer}" if what == "s" else fake._answer(line)

    fake.answer = refuses
    correction = correct(reach(fake), POLICY, later(clock))
    assert correction.method is None
    assert "permitted" in correction.refused or "EPERM" in correction.refused
    assert "CAP_SYS_TIME" in correction.refused
    assert "sudo = true" in correction.refused
    assert correction.attempts[0].startswith("relative-step: ")


def test_each_failure_is_named_before_the_next_method_is_tried(clock):
    """The step is refused, PTP is not there, the guest agent does it."""
    fake = FakeAgent(clock, -5.0)

    def poor(line):
        what, number = line.split(" ")[:2]
        return {"s": f"{number} 1", "p": f"{number} 19"}.get(what) or fake._answer(line)

    fake.answer = poor
    qga = QemuAgent(fake)
    correction = correct(reach(fake, agent=qga), BACKWARD, later(clock))
    assert (correction.method, correction.refused) == ("guest-agent", None)
    names = [attempt.partition(":")[0] for attempt in correction.attempts]
    assert names == ["relative-step", "ptp-kvm", "guest-agent", "guest-agent"]
    assert "EPERM" in correction.attempts[0]
    assert "ENODEV" in correction.attempts[1]
    assert abs(fake.offset_s) < 0.010, "the second attempt knows how late the first was"


def test_the_guest_agent_is_told_the_time_ahead_by_what_its_way_costs(clock):
    """Measured right before; a slow channel costs no second attempt."""
    fake = FakeAgent(clock, -5.0)
    qga = QemuAgent(fake, late_s=0.2, answers_in_s=0.4)
    policy = CorrectionPolicy(tolerance_s=0.010, methods=("guest-agent",))
    correction = correct(reach(fake, agent=qga), policy, later(clock))
    assert (correction.refused, qga.calls) == (None, 1)
    assert abs(fake.offset_s) < 0.001


def test_the_order_of_methods_is_a_setting_and_nothing_else_is_tried(clock):
    """--method guest-agent, whose agent is not there."""
    fake = FakeAgent(clock, -5.0)
    policy = CorrectionPolicy(tolerance_s=0.010, methods=("guest-agent",))
    qga = QemuAgent(fake, refuses=True)
    correction = correct(reach(fake, agent=qga), policy, later(clock))
    assert correction.refused == "not corrected: guest-agent: agent not connected"
    assert (qga.calls, steps(fake)) == (1, 0)


def test_where_no_method_fits_each_one_says_why(clock):
    """A shell without date, and no agent."""
    fake = FakeAgent(clock, -5.0, abilities="rtc")
    refused = correct(reach(fake, "sh"), POLICY, later(clock)).refused
    assert refused.startswith("no method works in this guest: ")
    for words in ("chronyd does not run", "no way to a guest agent", "relative-step: "):
        assert words in refused


def test_a_method_that_works_but_not_for_this_offset_says_so(clock):
    """5 s are not slewed; each obstacle is told."""
    fake = FakeAgent(clock, -5.0)
    policy = CorrectionPolicy(tolerance_s=0.010, methods=("slew", "guest-agent"))
    assert correct(reach(fake), policy, later(clock)).refused == (
        "no method works in this guest: slew: not for this offset; "
        "guest-agent: there is no way to a guest agent here"
    )


def test_every_attempt_that_failed_is_told(clock):
    """In their order."""
    fake = FakeAgent(clock, -5.0)
    fake.answer = lambda line: (
        f"{line.split(' ')[1]} 19" if line.startswith("p ") else fake._answer(line)
    )
    policy = CorrectionPolicy(tolerance_s=0.010, methods=("guest-agent", "ptp-kvm"))
    qga = QemuAgent(fake, refuses=True)
    refused = correct(reach(fake, agent=qga), policy, later(clock)).refused
    first, _, second = refused.partition("; ")
    assert first == "not corrected: guest-agent: agent not connected"
    assert second.startswith("ptp-kvm: ")


def test_a_reading_just_taken_is_not_taken_again(clock):
    """The guest is paused no more, and its clock is wrong: what is known is acted upon."""
    fake = FakeAgent(clock, -5.0)
    found = reach(fake)
    first = found.sampler.read(2, later(clock))
    before = len(fake.asked)
    assert correct(found, POLICY, later(clock), first).refused is None
    assert fake.asked[before].startswith("s ")


@pytest.mark.parametrize(("way_s", "again"), [(0.004, False), (0.006, True)])
def test_a_reading_that_tells_right_from_wrong_is_sure_enough(clock, way_s, again):
    """That is half the tolerance of 10 ms; one less sure is taken again, for it may be bad luck."""
    fake = FakeAgent(clock, 0.0, there_s=way_s, back_s=way_s)
    assert correct(reach(fake), POLICY, later(clock)).refused is None
    assert (steps(fake, "r") > POLICY.samples) is again


def test_a_clock_that_does_not_stay_put_is_not_called_corrected(clock):
    """Somebody in the guest undoes every step."""
    fake = FakeAgent(clock, -5.0, abilities="step")
    fake.answer = lambda line: (
        f"{line.split(' ')[1]} ok" if line.startswith("s ") else fake._answer(line)
    )
    correction = correct(reach(fake), POLICY, later(clock))
    assert correction.method is None
    assert correction.refused.startswith("not corrected: relative-step")
    assert len(correction.attempts) == 3


@pytest.mark.parametrize(
    ("part", "method", "refused"),
    [
        (0.4, None, "not corrected: relative-step"),
        (0.6, "relative-step", "set by relative-step (it was 5.000 s slow); still not right"),
    ],
)
def test_a_method_that_moved_a_clock_by_less_than_half_is_not_what_moved_it(
    clock, part, method, refused
):
    """The first step has a part of its effect, the others none."""
    fake = FakeAgent(clock, -5.0, abilities="step")

    def answer(line: str) -> str:
        if not line.startswith("s "):
            return fake._answer(line)
        if steps(fake) == 1:
            fake.offset_s += part * 5.0
        return f"{line.split(' ')[1]} ok"

    fake.answer = answer
    correction = correct(reach(fake), POLICY, later(clock))
    assert correction.method == method
    assert correction.refused.startswith(refused)


def test_chronyd_is_told_once_the_clock_is_right(clock):
    """End its slew, forget what it measured; and the clock is looked at again after that."""
    fake = FakeAgent(clock, -5.0)
    shell = Chronyc(then=lambda: fake.asked.append("told"))
    correction = correct(reach(fake, shell=shell, time_daemon="chronyd"), POLICY, later(clock))
    assert (correction.method, correction.doubt) == ("chronyd", None)
    assert shell.commands == ["chronyc -n -m makestep 'reset sources' 2>&1 </dev/null"]
    told = fake.asked.index("told")
    assert any(line.startswith("r ") for line in fake.asked[told:])


def test_a_slew_that_chronyd_was_at_is_stepped_away_again(clock):
    """makestep jumps by what was left of it; the next reading sees that."""
    fake = FakeAgent(clock, -5.0)
    left = iter([-0.5])
    shell = Chronyc()
    shell.then = lambda: setattr(fake, "offset_s", fake.offset_s + next(left, 0.0))
    correction = correct(reach(fake, shell=shell, time_daemon="chronyd"), POLICY, later(clock))
    assert (correction.method, correction.refused, correction.doubt) == ("chronyd", None, None)
    assert abs(fake.offset_s) < 0.001
    assert len(shell.commands) == 2


@pytest.mark.parametrize("sudo", [False, True])
def test_a_chronyc_that_is_refused_leaves_a_doubt(clock, sudo):
    """The clock is right now; for how long is not known, and is said."""
    fake = FakeAgent(clock, -5.0, there_s=0.0004, back_s=0.0004)
    shell = Chronyc("501 Not authorised", returncode=1)
    found = reach(fake, shell=shell, time_daemon="chronyd", sudo=sudo)
    correction = correct(found, POLICY, later(clock))
    assert (correction.method, correction.refused) == ("chronyd", None)
    assert "chronyc: 501 Not authorised" in correction.doubt
    assert "may undo it" in correction.doubt
    assert shell.commands[0].startswith("sudo -n chronyc" if sudo else "chronyc")
    looks = [line[0] for line in fake.asked]
    assert looks == [*"hrrsrr", *["r"] * POLICY.samples], "nothing moved it meanwhile"


@pytest.mark.parametrize(
    ("daemon", "method"),
    [("systemd-timesyncd", "timesyncd"), ("ntpd", "ntpd"), ("openntpd", "ntpd")],
)
def test_other_daemons_are_corrected_with_as_well(clock, daemon, method):
    """They take no word; the kernel drops the slew that they had asked for."""
    fake = FakeAgent(clock, -5.0)
    correction = correct(reach(fake, time_daemon=daemon), POLICY, later(clock))
    assert (correction.method, correction.doubt) == (method, None)


@given(st.integers(-50_000_000, 50_000_000).filter(bool), st.floats(0.05, 1))
def test_a_slew_shifts_the_clock_by_what_it_should(shift_ns, least_s):
    """Neither too fast nor too short to be exact."""
    ppm, duration_ns = slew_plan(shift_ns, least_s)
    assert abs(ppm) <= 90_000
    assert abs(ppm * duration_ns / 1_000_000 - shift_ns) <= 1 + abs(ppm) / 1_000_000
    assert duration_ns <= 2e9


@pytest.mark.parametrize(
    ("latency_s", "slewed_ns"), [(0.0, 200_000_000), (0.004, 192_000_000), (0.5, 0)]
)
def test_a_slew_ends_earlier_by_what_ending_it_takes(clock, latency_s, slewed_ns):
    """In a shell, whose ``sleep`` and ``adjtimex`` are started meanwhile."""
    fake = FakeAgent(clock, -0.018, abilities=SHELL)
    found = reach(fake, "sh")
    found.sampler.date_latency_s = latency_s
    reading = found.sampler.read(4, later(clock))
    METHODS["slew"].apply(found, Change(reading), later(clock))
    assert fake.asked[-1].split()[2:] == ["90000", str(slewed_ns)]


def test_with_a_time_daemon_the_tick_is_left_alone(clock):
    """It is the daemon's; a small offset is stepped."""
    fake = FakeAgent(clock, -0.030)
    found = reach(fake, shell=Chronyc(), time_daemon="chronyd")
    assert correct(found, POLICY, later(clock)).method == "chronyd"
    assert steps(fake, "t") == 0


def test_date_is_sent_so_that_it_takes_effect_at_the_second(clock):
    """Half the round trip early; what is left is the asymmetry."""
    fake = FakeAgent(clock, -5.0, there_s=0.004, back_s=0.002, abilities=SHELL)
    found = reach(fake, "sh")
    reading = found.sampler.read(4, later(clock))
    METHODS["date-at-second"].apply(found, Change(reading), later(clock))
    assert abs(fake.offset_s) <= reading.uncertainty_s


@pytest.mark.parametrize(
    ("beside", "latency_s", "earlier_s"), [(0, 0.002, 0.0), (3, 0.002, 0.006), (7, 0.010, 0.015)]
)
def test_clocks_that_are_set_at_the_same_second_are_sent_it_one_after_the_other(
    clock, beside, latency_s, earlier_s
):
    """On few CPUs each ``date`` waits for those before it; none is sent too early to be right."""
    fake = FakeAgent(clock, -5.0, 0.0, 0.0, abilities=SHELL)
    found = reach(fake, "sh", turn=Told(beside=beside))
    found.sampler.date_latency_s = latency_s
    reading = found.sampler.read(4, later(clock))
    METHODS["date-at-second"].apply(found, Change(reading), later(clock))
    assert fake.offset_s == pytest.approx(0.8 * latency_s + earlier_s, abs=0.0001)


@pytest.mark.parametrize("target_s", [0.0, -2.25, 0.4])
def test_a_shell_that_knows_whole_seconds_only_gets_close_and_is_slewed_the_rest(clock, target_s):
    """``date`` takes 15 ms longer than it was thought to."""
    fake = FakeAgent(clock, -5.0, abilities="date slew")
    fake.answer = lambda line: (
        (fake.clock.advance(0.015) if line.startswith("d ") else None) or fake._answer(line)
    )
    policy = CorrectionPolicy(tolerance_s=0.010, target_s=target_s)
    correction = correct(reach(fake, "sh"), policy, later(clock))
    assert correction.refused is None
    assert abs(fake.offset_s - target_s) <= 0.010
    assert [a.partition(":")[0] for a in correction.attempts] == ["date-at-second", "slew"]


@pytest.mark.parametrize("times", [1, 9])
def test_a_date_that_came_very_late_is_not_sent_as_much_earlier_the_next_time(clock, times):
    """A busy machine may be idle then: half a second early could not be slewed back. One that is
    always so late gets there in some more attempts."""
    fake = FakeAgent(clock, -5.0, abilities="date slew")
    late = [0.496] * times

    def answer(line: str) -> str:
        if line.startswith("d ") and late:
            clock.advance(late.pop())
        return fake._answer(line)

    fake.answer = answer
    found = correct(reach(fake, "sh"), CorrectionPolicy(tolerance_s=0.020), later(clock))
    assert (found.refused, abs(fake.offset_s) <= 0.020) == (None, True), found.attempts


def test_without_a_slew_the_next_date_is_sent_that_much_earlier(clock):
    """The latency that was measured is compensated."""
    fake = FakeAgent(clock, -5.0, abilities="date")
    fake.answer = lambda line: (
        (fake.clock.advance(0.030) if line.startswith("d ") else None) or fake._answer(line)
    )
    correction = correct(reach(fake, "sh"), BACKWARD, later(clock))
    assert (correction.method, correction.refused) == ("date-at-second", None)
    assert len(correction.attempts) == 2


def test_the_ptp_clock_is_refused_where_there_is_none(clock):
    """As under software emulation: the refusal has the kernel's word for it."""
    fake = FakeAgent(clock, -5.0)
    fake.answer = lambda line: (
        f"{line.split(' ')[1]} 19" if line.startswith("p ") else fake._answer(line)
    )
    policy = CorrectionPolicy(tolerance_s=0.010, methods=("ptp-kvm",))
    assert "ENODEV" in correct(reach(fake), policy, later(clock)).refused


def test_abilities_that_nobody_knows_are_no_abilities(clock):
    """A newer or a lying agent."""
    found = reach(FakeAgent(clock, abilities="step fly latency=5000000"))
    assert found.sampler.abilities == {Ability.STEP}
    assert found.sampler.date_latency_s == 0.005


def test_while_a_clock_is_wrong_no_time_is_spent_on_looking_closely(clock):
    """Two samples before the step and two after it; then it is right, and all of them are taken."""
    fake = FakeAgent(clock, -5.0, there_s=0.0004, back_s=0.0004)
    correction = correct(reach(fake), POLICY, later(clock))
    asked = [line[0] for line in fake.asked]
    assert asked == ["h", "r", "r", "s", "r", "r", *["r"] * POLICY.samples]
    assert correction.verified_ns == clock.monotonic_ns() - POLICY.samples * 800_000


def test_a_clock_that_moves_after_it_was_right_is_not_called_corrected(clock):
    """The close look has the last word."""
    fake = FakeAgent(clock, -5.0, there_s=0.0004, back_s=0.0004)

    def undone(line):
        if len(fake.asked) == 7:
            fake.offset_s = 0.5
        return fake._answer(line)

    fake.answer = undone
    correction = correct(reach(fake), POLICY, later(clock))
    assert correction.refused is not None
    assert correction.verified_ns is None


def busy(fake: FakeAgent, way_s: float) -> None:
    """From now on the guest answers so late, each way."""
    fake.there_s = fake.back_s = way_s


def test_a_clock_that_cannot_be_told_right_from_wrong_is_read_again_when_others_are_done(clock):
    """It was known to a millisecond before; 30 ms off and known to 40 it was given up."""
    fake = FakeAgent(clock, -0.030)
    found = reach(fake, turn=Told(when_later=[lambda: busy(fake, 0.001)]))
    found.sampler.read(2, later(clock))
    busy(fake, 0.040)
    done = correct(found, POLICY, later(clock))
    assert done.refused is None
    assert POLICY.judge(done.after) is Outcome.PASS
    assert abs(fake.offset_s) < 0.002
    assert done.verified_ns is not None


def test_a_clock_that_stays_unknown_is_not_called_right_however_often_it_was_read_again(clock):
    """And says so with both figures."""
    fake, asked = FakeAgent(clock, -0.030), []
    again = lambda: asked.append(len(fake.asked))  # noqa: E731
    found = reach(fake, turn=Told(when_later=[again, again]))
    found.sampler.read(2, later(clock))
    busy(fake, 0.040)
    done = correct(found, POLICY, later(clock))
    assert len(asked) == 2
    assert "only known to ± 40.00 ms" in done.refused
    assert done.verified_ns is None


def test_a_clock_that_was_never_known_well_enough_is_not_read_again(clock):
    """The way to that guest is slow, and so it is when others are done."""
    fake, asked = FakeAgent(clock, -0.030, 0.040, 0.040), []
    again = lambda: asked.append(len(fake.asked))  # noqa: E731
    done = correct(reach(fake, turn=Told(when_later=[again])), POLICY, later(clock))
    assert (done.refused is not None, asked) == (True, [])


def test_an_error_when_it_is_read_again_leaves_what_was_known(clock):
    """The guest has ended meanwhile, perhaps."""
    fake = FakeAgent(clock, -0.030)

    def ended() -> None:
        fake.answer = silent

    found = reach(fake, turn=Told(when_later=[ended]))
    found.sampler.read(2, later(clock))
    busy(fake, 0.040)
    assert "only known to ± 40.00 ms" in correct(found, POLICY, later(clock)).refused


def test_a_poor_close_look_does_not_make_a_clock_unknown_that_was_known_to_be_right(clock):
    """Other guests answered just then: what was known a moment ago is what is known."""
    fake = FakeAgent(clock, -5.0)
    found = reach(fake, turn=Told(lambda: busy(fake, 0.040)))
    done = correct(found, POLICY, later(clock))
    assert (done.refused, POLICY.judge(done.after)) == (None, Outcome.PASS)
    assert 0.001 < done.after.uncertainty_s < 0.002, "a little less sure than then"
    assert len(fake.asked) < 20, "nor is it asked again and again, in the way of the others"


@pytest.mark.parametrize("by_s", [0.100, -0.100])
def test_a_poor_close_look_that_contradicts_what_was_known_counts(clock, by_s):
    """The clock was set by another meanwhile."""
    fake = FakeAgent(clock, -5.0)

    def moved() -> None:
        if by_s:
            fake.offset_s += by_s
        busy(fake, 0.040)

    done = correct(reach(fake, turn=Told(moved)), POLICY, later(clock))
    assert done.refused is not None
    assert done.verified_ns is None


def test_under_a_time_daemon_only_the_last_reading_counts(clock):
    """It may have set the clock since, by less than the poor reading could tell."""
    fake = FakeAgent(clock, -5.0)
    found = reach(fake, time_daemon="ntpd", turn=Told(lambda: busy(fake, 0.040)))
    done = correct(found, POLICY, later(clock))
    assert "only known to ± 40.00 ms" in done.refused


@pytest.mark.parametrize("again", [0, 1])
def test_a_clock_that_could_not_be_set_beside_others_is_set_when_they_are_done(clock, again):
    """Each date took effect 50 ms late or early, until the guest was less busy."""
    fake = FakeAgent(clock, -5.0, abilities=SHELL)
    wrong = [0.050, -0.050] * 3

    def answer(line: str) -> str:
        said = fake._answer(line)
        if line.startswith("d ") and wrong:
            fake.offset_s += wrong.pop()
        return said

    fake.answer = answer
    found = reach(fake, "sh", turn=Told(when_later=[wrong.clear] * again))
    found.sampler.read(2, later(clock))
    done = correct(found, BACKWARD, later(clock))
    assert (done.refused is None) == bool(again)
    assert (done.verified_ns is not None) == bool(again)


def test_where_no_method_works_none_is_waited_for(clock):
    """It will not work later either."""
    fake, asked = FakeAgent(clock, -5.0, abilities="rtc"), []
    found = reach(fake, turn=Told(when_later=[lambda: asked.append(True)]))
    assert "no method works" in correct(found, POLICY, later(clock)).refused
    assert asked == []


def test_a_clock_that_was_set_wrong_after_it_was_right_is_stale_until_it_is_right_again(clock):
    """Another set it while this one waited for others: what was verified is not so any more."""
    fake, moved_ns = FakeAgent(clock, -5.0), list[int]()

    def moved() -> None:
        if not moved_ns:
            clock.advance(3.0)
            fake.offset_s -= 0.5
            moved_ns.append(clock.monotonic_ns())

    done = correct(reach(fake, turn=Told(moved)), POLICY, later(clock))
    assert done.refused is None
    assert abs(fake.offset_s) < 0.002
    assert done.verified_ns > moved_ns[0]
