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
        return correct_clock(self.session, now_ns, until, foreseen=foreseen, when_right=right)


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
