"""The step that goes with the first question after a pause, on real guests that really paused.

Requires: the session's lab. Leaves behind: nothing; debian-1's clock is right.
"""

from __future__ import annotations

import pytest

from harness.clock.agents import Ability
from harness.clock.correction import correct
from harness.clock.foreseen import Foreseen
from harness.clock.policy import CorrectionPolicy
from harness.core.records import ClockReading, Outcome
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline
from harness.maintenance.agent import GuestAgentClock
from harness.maintenance.guest_clock import ClockOutcome, correct_clock
from harness.maintenance.session import GuestSession

PAUSE_S = 1.0
#: Wide: a busy machine makes a pause and a reading uncertain, and neither is what is tried here.
POLICY = CorrectionPolicy(tolerance_s=0.050)


class Paused:
    """A guest with a right clock that was paused for ``PAUSE_S``, and asked what of it was told."""

    def __init__(self, guest: GuestSession) -> None:
        self.guest = guest
        self.asked: list[str] = []
        self.until = Deadline.after(60)
        right = CorrectionPolicy(tolerance_s=0.010, allow_backward=True)
        assert correct(guest.reach, right, self.until).refused is None

    def pause(self) -> Foreseen:
        """Pause and resume it."""
        host, uuid, now_ns = self.guest.login.hypervisor, self.guest.info.uuid, monotonic_ns
        before = self.guest.sampler.read(8, self.until)
        began = now_ns()
        host.pause(uuid, self.until)
        paused = now_ns()
        SYSTEM_CLOCK.sleep(PAUSE_S)
        resuming = now_ns()
        host.resume(uuid, self.until)
        self.resumed_ns = now_ns()
        inner_s, outer_s = (resuming - paused) / NS_PER_S, (self.resumed_ns - began) / NS_PER_S
        return Foreseen(before, inner_s, outer_s)

    def correct(self, foreseen: Foreseen, monkeypatch) -> ClockOutcome:
        """As a run does."""
        ask = self.guest.sampler._stream.ask

        def asked(line, deadline):
            self.asked.append(line.split()[0])
            return ask(line, deadline)

        monkeypatch.setattr(self.guest.sampler._stream, "ask", asked)
        monkeypatch.setattr(self.guest, "policy", lambda before: POLICY)
        outcome = correct_clock(self.guest, self.resumed_ns, self.until, foreseen=foreseen)
        monkeypatch.undo()
        return outcome

    def truth(self) -> ClockReading:
        """What its clock is."""
        return self.guest.sampler.read(8, self.until)


def monotonic_ns() -> int:
    return SYSTEM_CLOCK.monotonic_ns()


@pytest.fixture(params=["python3", "perl"])
def paused(request, session) -> Paused:
    guest = session("debian-1", interpreters=[request.param])
    assert Ability.FORESEEN in guest.sampler.abilities
    return Paused(guest)


def test_a_guest_that_stood_still_steps_with_the_first_question(paused, monkeypatch):
    """And what is said of its clock has been read since."""
    outcome = paused.correct(paused.pause(), monkeypatch)
    assert paused.asked[:2] == ["f", "r"]
    assert "s" not in paused.asked[:3]
    assert outcome.method is not None, outcome
    assert outcome.after_resume.offset_s == pytest.approx(-PAUSE_S, abs=0.2)
    assert POLICY.judge(outcome.after_correction) is Outcome.PASS
    assert abs(paused.truth().offset_s) <= 0.050


def test_a_clock_that_another_set_right_before_the_first_question_is_not_set_twice(
    paused, monkeypatch
):
    """As management tools do after a resume, by QEMU's guest agent; a second step would be 1 s."""
    foreseen = paused.pause()
    agent = GuestAgentClock(paused.guest.login.hypervisor, paused.guest.info.uuid)
    agent.set(SYSTEM_CLOCK.realtime_ns(), paused.until)
    outcome = paused.correct(foreseen, monkeypatch)
    assert paused.asked[:2] == ["f", "r"]
    assert abs(outcome.after_resume.offset_s) < 0.3
    assert abs(paused.truth().offset_s) < 0.3


def test_a_step_that_the_guest_does_not_find_as_foreseen_changes_nothing(paused):
    """The clock is right, and the pause that was foreseen never was: its answer is a reading."""
    before = paused.truth()
    step = Foreseen(before, PAUSE_S, PAUSE_S).step(POLICY, before.host_ahead_s)
    told, since = paused.guest.sampler.step_foreseen(step, paused.until)
    assert since is None
    assert abs(told.offset_ns / NS_PER_S - before.offset_s) < 0.05
    assert abs(paused.truth().offset_s - before.offset_s) < 0.05
