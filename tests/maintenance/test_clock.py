"""``harness clock`` on a host in memory: guests are measured, corrected, judged."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from harness import api
from harness.core.errors import GuestNotFound
from harness.core.records import Outcome
from harness.host.lifecycle import GuestState
from tests.maintenance.conftest import House

PASS, FAIL, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.ERROR


def backend(at: House) -> api.Backend:
    """How ``at`` is reached."""
    return api.Backend(connect=lambda config: nullcontext(at.host), connector=at.connector)


def shown(at: House, **changes):
    """What ``show`` finds, guest by guest."""
    names = [guest.name for guest in at.guests]
    return api.read_clocks(at.config(**changes), names, backend=backend(at))


def corrected(at: House, **changes):
    """What ``correct`` does, guest by guest."""
    names = [guest.name for guest in at.guests]
    return api.correct_clocks(at.config(**changes), names, backend=backend(at))


def test_a_clock_is_measured_and_left_as_it_is(house):
    """Within its tolerance or not; no guest is paused, and every connection is closed."""
    at = house()
    at.guests[1].offset_s = -2.0
    right, slow = shown(at)
    assert (right.outcome, slow.outcome) == (PASS, FAIL)
    assert slow.before == slow.after
    assert slow.after.offset_s == pytest.approx(-2.0, abs=0.01)
    assert (right.interpreter, right.method, right.guest_agent_agrees) == ("python3", None, True)
    assert at.host.calls == []
    assert all(shell.closed for shell in at.connector.opened)


def test_a_slow_clock_is_corrected_and_measured_again(house):
    """With how long it took, and by what."""
    at = house("web1")
    at.guests[0].offset_s = -2.0
    (done,) = corrected(at)
    assert (done.outcome, done.method) == (PASS, "relative-step")
    assert abs(at.guests[0].offset_s) < 0.01
    assert done.corrected_in_s > 0
    assert done.attempts


def test_a_fast_clock_is_not_set_back_unasked(house):
    """The reason is told; with permission it is set back."""
    at = house("web1")
    at.guests[0].offset_s = 2.0
    (refused,) = corrected(at)
    assert refused.outcome is FAIL
    assert "not allowed" in refused.refused
    assert "not allowed" in refused.problem
    assert corrected(at, clock__allow_backward=True)[0].outcome is PASS


def test_a_guest_that_is_paused_has_no_clock_to_read(house):
    """An ERROR of its own; the other guest is read all the same."""
    at = house()
    at.host.states["web1"] = GuestState.PAUSED
    one, other = shown(at)
    assert (one.outcome, other.outcome) == (ERROR, PASS)
    assert "stands still" in one.problem
    assert (one.before, one.after) == (None, None)


def test_a_guest_that_is_not_there_is_an_error_for_all(house):
    """Somebody mistyped a name: nothing is measured."""
    at = house("web1")
    with pytest.raises(GuestNotFound, match="did you mean 'web1'"):
        api.read_clocks(at.config(), ["web2"], backend=backend(at))


def test_a_clock_is_watched_where_that_is_asked_for(house):
    """After a correction, and after a mere look."""
    at = house("web1")
    assert shown(at, clock__watch_s=0.05)[0].watch.readings >= 1
    at.guests[0].offset_s = -1.0
    (done,) = corrected(at, clock__watch_s=0.05)
    assert (done.outcome, done.watch.outcome) == (PASS, PASS)


def test_a_clock_that_may_not_stay_right_is_an_error_unless_it_was_watched(house):
    """chronyd was not told of the step."""
    at = house("web1")
    guest = at.guests[0]
    guest.time_daemon, guest.chronyc_refuses, guest.offset_s = "chronyd", True, -1.0
    (done,) = corrected(at)
    assert done.outcome is ERROR
    assert "may undo it" in done.doubt
    guest.offset_s = -1.0
    assert corrected(at, clock__watch_s=0.05)[0].outcome is PASS


def test_without_a_guest_agent_there_is_no_second_opinion(house):
    """And nothing is amiss."""
    at = house("web1")
    at.guests[0].guest_agent = False
    (one,) = shown(at)
    assert (one.outcome, one.guest_agent) == (PASS, None)
