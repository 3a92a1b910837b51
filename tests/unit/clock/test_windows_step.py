"""How a Windows guest's clock is corrected, and what else might move it; in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.clock.correction import correct
from harness.clock.methods import METHODS
from harness.clock.policy import CorrectionPolicy
from harness.clock.target import OwedTicks
from harness.guest import windows
from harness.testing.agent import FakeAgent
from harness.testing.clock import FakeClock
from harness.testing.windows import Windows, WindowsShell
from tests.unit.clock.test_correction import QemuAgent, later, reach

POLICY = CorrectionPolicy(0.010)
STEP = "step probe"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def guest(clock: FakeClock, offset_s: float = -5.0) -> FakeAgent:
    return FakeAgent(clock, offset_s, abilities=STEP)


def test_the_clock_is_stepped_and_w32time_told(clock):
    """One step, one resync; nothing else is asked of the guest."""
    inside = Windows()
    found = reach(guest(clock), "powershell", shell=WindowsShell(inside), time_daemon="w32time")
    correction = correct(found, POLICY, later(clock))
    assert (correction.method, correction.refused, correction.doubt) == ("windows", None, None)
    assert inside.asked == [windows.RESYNC]


def test_a_time_service_that_is_stopped_is_left_alone(clock):
    """The step alone is all that it takes."""
    inside = Windows()
    found = reach(guest(clock), "powershell", shell=WindowsShell(inside))
    assert correct(found, POLICY, later(clock)).doubt is None
    assert inside.asked == []


def test_a_time_service_that_cannot_be_told_is_a_doubt(clock):
    """By its status: its words are in any language."""
    shell = WindowsShell(Windows(resync_fails=True))
    found = reach(guest(clock), "powershell", shell=shell, time_daemon="w32time")
    correction = correct(found, POLICY, later(clock))
    assert correction.refused is None
    assert "may undo it: w32tm ended with status -2147023834" in correction.doubt


def test_owed_ticks_are_forgotten_before_the_step_and_the_rest_is_stepped(clock):
    """The guest agent's own set is 200 ms late here; the step is of what that left."""
    inside = guest(clock)
    agent = QemuAgent(inside)
    found = reach(inside, "powershell", owed=OwedTicks(agent))
    correction = correct(found, POLICY, later(clock))
    assert (correction.method, correction.refused, correction.doubt) == ("windows", None, None)
    assert (agent.calls, found.owed.why_not_forgotten) == (1, None)
    assert abs(inside.offset_s) < 0.001


@pytest.mark.parametrize("target_s", [-2.25, 0.4])
def test_the_offset_that_it_had_is_what_it_gets_back(clock, target_s):
    """Also through the guest agent."""
    inside = guest(clock)
    found = reach(inside, "powershell", owed=OwedTicks(QemuAgent(inside)))
    correction = correct(found, replace(POLICY, target_s=target_s), later(clock))
    assert correction.refused is None
    assert inside.offset_s == pytest.approx(target_s, abs=0.001)


@pytest.mark.parametrize(
    ("refuses", "said"), [(True, "agent not connected"), (None, "it has no guest agent")]
)
def test_ticks_that_are_still_owed_are_a_doubt(clock, refuses, said):
    """The clock is stepped all the same; that it stays right is not claimed."""
    inside = guest(clock)
    agent = None if refuses is None else QemuAgent(inside, refuses=True)
    found = reach(inside, "powershell", owed=OwedTicks(agent))
    correction = correct(found, POLICY, later(clock))
    assert (correction.method, correction.refused) == ("windows", None)
    assert said in correction.doubt
    assert "tickpolicy='catchup'" in correction.doubt


def test_qemu_that_was_not_told_carries_the_clock_away(clock):
    """What the doubt is about: 5 s of ticks, delivered within the next seconds."""
    for known in (True, False):
        inside = guest(clock)
        agent = Owing(inside)
        found = reach(inside, "powershell", owed=OwedTicks(agent) if known else None)
        correct(found, POLICY, later(clock))
        agent.deliver()
        carried = found.sampler.read(4, later(clock)).offset_s
        assert carried == pytest.approx(0 if known else 5, abs=0.01)


class Owing(QemuAgent):
    """A guest agent behind a QEMU that owes 5 s of ticks until the time is set through libvirt."""

    owes_s = 5.0

    def set(self, realtime_ns, deadline):
        super().set(realtime_ns, deadline)
        self.owes_s = 0.0

    def deliver(self):
        """What QEMU still owes."""
        self.fake.offset_s += self.owes_s


def test_it_is_for_windows_only(clock):
    """And comes before the methods that would leave W32Time untold."""
    linux = reach(FakeAgent(clock, -5.0), "python3")
    assert METHODS["windows"].obstacle(linux) == "it is no Windows"
    assert list(METHODS).index("windows") < list(METHODS).index("relative-step")
    blind = reach(FakeAgent(clock, -5.0, abilities="probe"), "powershell")
    assert METHODS["windows"].obstacle(blind) is not None
