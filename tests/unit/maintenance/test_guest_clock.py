"""A clock after a pause: what is asked of a guest, in which order, and what is believed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.clock.agents import agent
from harness.clock.foreseen import Foreseen
from harness.clock.policy import CorrectionPolicy
from harness.clock.sampling import Sampler
from harness.clock.target import Reach
from harness.core.records import ClockReading, Outcome
from harness.core.settings import ClockSection
from harness.core.timebase import Deadline
from harness.maintenance.guest_clock import correct_clock
from harness.testing.agent import FakeAgent
from harness.testing.clock import FakeClock
from tests.unit.clock.test_correction import Told

POLICY = CorrectionPolicy(tolerance_s=0.010)
#: A pause of five seconds of a guest whose clock was right.
FORESEEN = Foreseen(ClockReading(offset_s=0.0, uncertainty_s=0.0005), 4.999, 5.001)


class Guest:
    """A guest that was resumed just now; ``way_s`` each way."""

    def __init__(self, offset_s: float, way_s: float = 0.003, **more: Any) -> None:
        self.fake = FakeAgent(FakeClock(), offset_s, way_s, way_s, **more)
        sampler = Sampler("web1", self.fake, agent("python3"), self.fake.clock)
        sampler._greet(Deadline.after(60, self.fake.clock))
        self.fake.asked.clear()
        self.until_right = ""
        self.session: Any = SimpleNamespace(
            name="web1",
            sampler=sampler,
            reach=Reach(sampler, clock=self.fake.clock),
            policy=lambda before: POLICY,
            settings=ClockSection(),
        )

    @property
    def asked(self) -> str:
        return "".join(line[0] for line in self.fake.asked)

    def correct(self, foreseen: Foreseen | None):
        def right() -> None:
            self.until_right = self.asked

        now_ns, until = self.fake.clock.monotonic_ns(), Deadline.after(60, self.fake.clock)
        return correct_clock(self.session, now_ns, until, foreseen=foreseen, turn=Told(right))


AT_ONCE = "step foreseen slew ptp rtc probe"


def test_a_clock_that_is_as_foreseen_is_stepped_with_the_first_question():
    """One question, and one more sample that verifies it."""
    guest = Guest(-5.0, abilities=AT_ONCE)
    outcome = guest.correct(FORESEEN)
    assert guest.until_right == "fr"
    assert abs(guest.fake.offset_s) < 0.001
    assert outcome.after_resume.offset_s == pytest.approx(-5.0, abs=0.0001)
    assert (outcome.method, outcome.after_resume.samples) == ("relative-step", 1)
    assert POLICY.judge(outcome.after_correction) is Outcome.PASS
    assert outcome.stale_clock_window_s == pytest.approx(0.012, abs=0.001)


def test_what_is_left_after_a_foreseen_step_is_measured_and_taken_off():
    """The pause was known to 4 ms, and that is not how right the clock is to be."""
    guest = Guest(-5.003, way_s=0.0005, abilities=AT_ONCE)
    outcome = guest.correct(FORESEEN)
    assert guest.asked.startswith("fr")
    assert abs(guest.fake.offset_s) < 0.0005
    assert outcome.method == "slew"


#: Set right by another since the resume, or half of it; it went on in the pause; somebody else's.
NOT_FORESEEN = [0.0, 0.004, -0.004, -2.0, -2.5, 3.0, -5.2, -4.6]


@pytest.mark.parametrize("offset_s", NOT_FORESEEN)
def test_a_clock_that_is_not_as_foreseen_is_not_stepped_by_what_was(offset_s):
    """Neither with the first question nor later: it is read, and that decides."""
    guest = Guest(offset_s, abilities=AT_ONCE)
    outcome = guest.correct(FORESEEN)
    assert guest.asked.startswith("fr")
    assert outcome.after_resume.samples > 1
    assert outcome.after_resume.offset_s == pytest.approx(offset_s, abs=0.004)
    expected_s = offset_s if offset_s > 0 else 0.0
    assert guest.fake.offset_s == pytest.approx(expected_s, abs=0.0041)


@pytest.mark.parametrize("way_s", [0.0, 0.0005, 0.05, 0.2, 1.0, 4.99, 5.0, 6.0])
@pytest.mark.parametrize(("before_s", "pause_s"), [(0.0, 5.0), (0.001, 0.06), (-60.0, 0.1)])
def test_a_clock_that_went_on_in_the_pause_is_never_stepped_however_late_it_is_asked(
    before_s, pause_s, way_s
):
    """Nor one that has been set right; what a way takes looks like a clock that is ahead."""
    foreseen = Foreseen(
        ClockReading(offset_s=before_s, uncertainty_s=0.0005), pause_s - 0.0005, pause_s + 0.0005
    )
    for offset_s in (before_s, 0.0):
        guest = Guest(offset_s, abilities=AT_ONCE)
        guest.fake.there_s = way_s
        guest.session.sampler.step_foreseen(
            foreseen.step(POLICY, 0.0), Deadline.after(60, guest.fake.clock)
        )
        assert guest.fake.offset_s == offset_s


def test_a_question_that_comes_late_makes_no_step():
    """It was held up on its way for 0.2 s: by then much may have happened."""
    guest = Guest(-5.0, abilities=AT_ONCE)
    real, late = guest.fake.answer, [0.2]

    def answer(line: str) -> str:
        guest.fake.clock.advance(late.pop() if late else 0.0)
        return real(line)

    guest.fake.answer = answer
    guest.correct(FORESEEN)
    assert guest.asked.startswith("fr")
    assert "s" in guest.asked
    assert abs(guest.fake.offset_s) < 0.001


@pytest.mark.parametrize(
    ("settings", "policy", "foreseen"),
    [
        ({"correct": False}, {}, FORESEEN),
        ({}, {}, None),
        ({}, {"slew_below_s": 10.0}, FORESEEN),
        ({}, {"ceiling_s": 4.0}, FORESEEN),
        ({}, {"methods": ("slew",)}, FORESEEN),
        ({}, {"methods": ("ptp-kvm", "relative-step")}, FORESEEN),
        ({}, {"tolerance_s": 0.002}, FORESEEN),
        ({}, {}, Foreseen(FORESEEN.before, 4.9, 5.1)),
    ],
    ids=[
        *("no correction", "never measured", "to be slewed", "too much", "steps are forbidden"),
        *("another way first", "not known well enough", "a pause that is not known"),
    ],
)
def test_a_step_that_would_not_come_of_any_reading_is_not_sent(settings, policy, foreseen):
    """What may be done about a clock is for the policy to say, now as before."""
    guest = Guest(-5.0, abilities=AT_ONCE)
    guest.session.settings = ClockSection(**settings)
    allowed = CorrectionPolicy(**{"tolerance_s": 0.010, **policy})
    guest.session.policy = lambda before: allowed
    guest.correct(foreseen)
    assert "f" not in guest.asked


@pytest.mark.parametrize("pause_s", [0.0, 0.005, 0.045])
def test_after_a_pause_of_next_to_nothing_there_is_no_step_to_foresee(pause_s):
    """The clock is right, or as good as that."""
    guest = Guest(-pause_s, abilities=AT_ONCE)
    guest.correct(Foreseen(FORESEEN.before, pause_s, pause_s + 0.001))
    assert "f" not in guest.asked
    assert "s" not in guest.asked


def test_a_foreseen_step_that_was_refused_leaves_everything_to_the_ordinary_way():
    """Which says what a person can do."""
    guest = Guest(-5.0, abilities=AT_ONCE)
    real = guest.fake.answer
    guest.fake.answer = lambda line: f"{line.split()[1]} 1" if line[0] in "fspt" else real(line)
    outcome = guest.correct(FORESEEN)
    assert guest.asked.startswith("fr")
    assert "EPERM" in outcome.problem
    assert outcome.after_correction is not None


@pytest.mark.parametrize("moment", ["with the step", "right after it"])
def test_a_clock_that_another_sets_as_well_is_never_said_to_be_right(moment):
    """Both took off what it had lost: it is fast now, and setting it back is not allowed."""
    guest = Guest(-5.0, abilities=AT_ONCE)
    real = guest.fake.answer

    def answer(line: str) -> str:
        if line[0] == "r" and moment == "right after it" and guest.asked == "fr":
            guest.fake.offset_s += 5.0
        said = real(line)
        if line[0] == "f" and moment == "with the step":
            guest.fake.offset_s += 5.0
            number, word, before, after, sent, *more = said.split()
            sent = str(int(sent) + 5 * 10**9)
            said = " ".join([number, word, before, after, sent, *more])
        return said

    guest.fake.answer = answer
    outcome = guest.correct(FORESEEN)
    assert outcome.stale_clock_window_s is None
    assert "--allow-backward" in outcome.problem
    assert guest.until_right == ""


def test_an_agent_that_says_it_stepped_and_did_not_is_not_believed():
    """Its own stamps do not bear it out."""
    guest = Guest(-5.0, abilities=AT_ONCE)
    real = guest.fake.answer

    def answer(line: str) -> str:
        if line[0] != "f":
            return real(line)
        now, mono = guest.fake.now_ns(), guest.fake.clock.monotonic_ns()
        return f"{line.split()[1]} stepped {now} {now} {now + 1} {mono} {mono}"

    guest.fake.answer = answer
    outcome = guest.correct(FORESEEN)
    assert "s" in guest.asked
    assert abs(guest.fake.offset_s) < 0.001
    assert POLICY.judge(outcome.after_correction) is Outcome.PASS


@pytest.mark.parametrize("says", ["stepped", "stepped x y z 1 1", "stepped 1 2 3", "what", ""])
def test_nonsense_for_an_answer_leaves_everything_to_the_ordinary_way(says):
    """Whatever a guest says is only data."""
    guest = Guest(-5.0, abilities=AT_ONCE)
    real = guest.fake.answer
    guest.fake.answer = lambda line: f"{line.split()[1]} {says}" if line[0] == "f" else real(line)
    outcome = guest.correct(FORESEEN)
    assert abs(guest.fake.offset_s) < 0.001
    assert POLICY.judge(outcome.after_correction) is Outcome.PASS


def test_a_clock_that_is_as_foreseen_by_one_sample_is_stepped_at_once():
    """One sample, one step, two samples that verify it: it was eight, one and eight."""
    guest = Guest(-5.0)
    outcome = guest.correct(FORESEEN)
    assert guest.until_right == "rsrr"
    assert abs(guest.fake.offset_s) < 0.001
    assert (outcome.method, outcome.after_resume.samples) == ("relative-step", 1)
    assert POLICY.judge(outcome.after_correction) is Outcome.PASS
    others = Guest(-5.0)
    assert others.correct(None).method == "relative-step"
    assert len(others.until_right) > len(guest.until_right)


def test_a_guest_that_is_busy_is_stepped_by_what_was_foreseen_and_judged_by_what_is_seen():
    """Its sample is known to ± 20 ms; so is whether it is right, in the end."""
    guest = Guest(-5.0, way_s=0.020)
    outcome = guest.correct(FORESEEN)
    assert guest.asked.startswith("rs")
    assert abs(guest.fake.offset_s) < 0.005
    assert POLICY.judge(outcome.after_correction) is Outcome.ERROR
    assert outcome.stale_clock_window_s is None


@pytest.mark.parametrize("offset_s", [0.0, -2.0, 3.0, -5.2])
def test_a_clock_that_is_not_as_foreseen_is_read_first_and_never_stepped_by_what_was(offset_s):
    """It had gone on, or was set meanwhile: what was foreseen says nothing about it."""
    guest = Guest(offset_s)
    outcome = guest.correct(FORESEEN)
    assert guest.asked.startswith("rr")
    assert outcome.after_resume.samples > 1
    expected_s = offset_s if offset_s > 0 else 0.0
    assert guest.fake.offset_s == pytest.approx(expected_s, abs=0.001)


def test_a_clock_that_is_set_beside_others_is_sent_its_second_before_them():
    """Its place in the queue says beside how many; it is 6 ms for three of 2 ms each."""
    found = {}
    for beside in (0, 3):
        guest = Guest(-5.0, way_s=0.0, abilities="date latency=2000000")
        now_ns, until = guest.fake.clock.monotonic_ns(), Deadline.after(60, guest.fake.clock)
        correct_clock(guest.session, now_ns, until, turn=Told(beside=beside))
        found[beside] = guest.fake.offset_s
    assert found[3] - found[0] == pytest.approx(0.006, abs=0.0001)


def test_what_was_foreseen_is_no_reading_where_nothing_could_be_done():
    """The record says what was seen, to what it was sure."""
    guest = Guest(-5.0, abilities="rtc")
    outcome = guest.correct(FORESEEN)
    assert outcome.after_correction == outcome.after_resume
    assert outcome.after_correction.uncertainty_s == pytest.approx(0.003, abs=0.0001)
    assert "no method works" in outcome.problem


def test_a_clock_that_is_not_to_be_corrected_is_read_with_all_samples():
    """The reading is all that comes of it."""
    guest = Guest(-5.0)
    guest.session.settings = ClockSection(correct=False)
    outcome = guest.correct(FORESEEN)
    assert (guest.asked, outcome.after_resume.samples) == ("r" * 8, 8)
