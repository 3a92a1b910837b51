"""Whether the machine has CPUs to spare, by what the kernel counts."""

from __future__ import annotations

import os

import pytest

from harness.host import slack
from harness.host.slack import Slack
from harness.testing.clock import FakeClock


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """``machine.idle(share)``: so much of all CPUs is idle for a second; its answer then."""

    class Machine:
        clock, file, own_s, ticks = FakeClock(), tmp_path / "stat", 0.0, 1000
        slack: Slack

        def write(self) -> None:
            half = self.ticks // 2
            self.file.write_text(f"cpu  7 7 7 {half} {self.ticks - half} 7 0 0 0 0\ncpu0 1 1 1\n")

        def idle(self, share: float, own_s: float = 0.0, seconds: float = 1.0) -> bool | None:
            self.clock.advance(seconds)
            rate = os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1)
            self.ticks += round(share * seconds * rate)
            self.own_s += own_s
            self.write()
            return self.slack.there_is()

    at = Machine()
    monkeypatch.setattr(slack, "_own_s", lambda: at.own_s)
    at.write()
    at.slack = Slack(at.file, at.clock)
    return at


def test_a_machine_has_slack_if_half_of_it_is_idle(machine):
    """As counted since the last look; waiting for a disk is idle too."""
    assert machine.idle(1.0) is True
    assert machine.idle(0.1) is False
    assert machine.idle(0.6) is True


def test_a_process_that_is_busy_itself_gets_no_faster_with_more_threads(machine):
    """However many CPUs the machine has left."""
    assert machine.idle(0.9, own_s=0.8) is False


def test_nothing_is_said_of_a_moment(machine):
    """The kernel counts in ticks; a moment later it has counted more."""
    assert machine.idle(1.0, seconds=0.005) is None
    assert machine.idle(1.0, seconds=0.5) is True


def test_what_cannot_be_read_is_no_slack(machine):
    """Neither before nor after."""
    machine.file.unlink()
    machine.clock.advance(1)
    assert machine.slack.there_is() is False
    assert machine.idle(1.0) is False
    assert machine.idle(1.0) is True


def test_this_machine_tells():
    """Whatever it says, it is an answer."""
    here = Slack()
    while (said := here.there_is()) is None:
        os.sched_yield()
    assert said in (True, False)
