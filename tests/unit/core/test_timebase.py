"""Deadlines, stopwatches and waiting, on a clock that only moves when it is told to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest

from harness.core.errors import DeadlineExpired, InfrastructureError, ShellUnreachable, WrongState
from harness.core.timebase import (
    NS_PER_S,
    SYSTEM_CLOCK,
    Deadline,
    NotYet,
    Stopwatch,
    Suspension,
    realtime_ahead,
    utc_now,
    wait_for,
)
from harness.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


class Probe:
    """Raises the given errors one after the other, then answers; counts how often it was asked."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


class Never(Probe):
    """Is never satisfied; each reason is a new one."""

    def __call__(self) -> str:
        self.asked += 1
        raise NotYet(f"reason {self.asked}")


def test_a_deadline_counts_down_and_stops_at_zero(clock):
    """What is left is fit for a foreign timeout: never negative."""
    deadline = Deadline.after(2.5, clock)
    assert (deadline.limit_s, deadline.remaining_s(), deadline.expired) == (2.5, 2.5, False)
    clock.advance(2.0)
    assert (deadline.remaining_s(), deadline.expired) == (0.5, False)
    clock.advance(10)
    assert (deadline.remaining_s(), deadline.expired) == (0.0, True)


def test_a_deadline_has_passed_when_its_very_nanosecond_has_come(clock):
    """Not one nanosecond before, and not one after."""
    deadline = Deadline.after(1.0, clock)
    clock.advance(1 - 1 / NS_PER_S)
    assert not deadline.expired
    clock.advance(1 / NS_PER_S)
    assert deadline.expired


@pytest.mark.parametrize("limit_s", [0.0, -1.0])
def test_a_deadline_without_time_has_passed_already(clock, limit_s):
    """Zero and negative limits leave nothing."""
    deadline = Deadline.after(limit_s, clock)
    assert (deadline.expired, deadline.remaining_s()) == (True, 0.0)


def test_setting_the_wall_clock_moves_no_deadline_and_no_stopwatch(clock):
    """They live on the monotonic clock: NTP may do what it likes."""
    deadline, watch = Deadline.after(5, clock), Stopwatch(clock)
    clock.step_realtime(-86_400)
    assert (deadline.remaining_s(), watch.elapsed_s()) == (5.0, 0.0)
    clock.step_realtime(3 * 86_400)
    assert (deadline.remaining_s(), watch.elapsed_s()) == (5.0, 0.0)


def test_sooner_is_whichever_comes_first(clock):
    """It shortens a deadline, and never lengthens one."""
    deadline = Deadline.after(10, clock)
    assert deadline.sooner(3).remaining_s() == 3.0
    assert deadline.sooner(30) is deadline
    clock.advance(8)
    assert deadline.sooner(3) is deadline
    assert deadline.sooner(1).remaining_s() == 1.0


def test_a_shorter_deadline_lives_on_the_same_clock(clock):
    """Nothing falls back to the system's clock on the way down."""
    assert Deadline.after(10, clock).sooner(3).clock is clock


def test_sooner_counts_from_now_and_not_from_the_start(clock):
    """A series of steps cannot outlast the whole."""
    deadline = Deadline.after(10, clock)
    for _ in range(4):
        clock.advance(deadline.sooner(3).remaining_s())
    assert (clock.monotonic_ns() - 1_000 * NS_PER_S, deadline.expired) == (10 * NS_PER_S, True)


def test_check_says_nothing_before_the_time_is_up(clock):
    """Time left is no error."""
    deadline = Deadline.after(1, clock)
    clock.advance(0.999)
    deadline.check("pausing")


def test_check_names_what_took_too_long_the_limit_and_the_last_error(clock):
    """One line tells a person what it was, how long it was allowed to take, and why it did not."""
    deadline = Deadline.after(1.5, clock)
    clock.advance(1.5)
    last = WrongState("is shut off", operation="pausing", guest="web1")
    with pytest.raises(DeadlineExpired) as caught:
        deadline.check("pausing", last)
    assert str(caught.value) == "pausing took longer than 1.5 s; last error: web1: is shut off"
    error = caught.value
    assert (error.what, error.limit_s, error.last_error) == ("pausing", 1.5, last)
    with pytest.raises(DeadlineExpired, match=r"^pausing took longer than 1.5 s$"):
        deadline.check("pausing")


def test_a_stopwatch_measures_from_when_it_was_made(clock):
    """And can be read again and again."""
    clock.advance(7)
    watch = Stopwatch(clock)
    assert watch.elapsed_s() == 0.0
    clock.advance(1.25)
    assert watch.elapsed_s() == 1.25
    clock.advance(0.25)
    assert watch.elapsed_s() == 1.5


def test_waiting_returns_the_answer_without_sleeping_if_there_is_one(clock):
    """Asked once, at once."""
    probe = Probe()
    before = clock.monotonic_ns()
    assert wait_for(probe, what="x", deadline=Deadline.after(5, clock)) == "answer"
    assert (probe.asked, clock.monotonic_ns()) == (1, before)


def test_waiting_asks_again_after_each_interval(clock):
    """Not more often, not less."""
    probe, watch = Probe(NotYet("a"), NotYet("b"), NotYet("c")), Stopwatch(clock)
    wait_for(probe, what="x", deadline=Deadline.after(5, clock), interval_s=0.5)
    assert (probe.asked, watch.elapsed_s()) == (4, 1.5)


def test_what_takes_long_is_asked_less_and_less_often(clock):
    """So that who waits for an hour has not asked a thousand times; and not ever less."""

    class Never:
        asked_s: list[float] = []

        def __call__(self) -> None:
            self.asked_s.append(clock.monotonic_ns() / 1e9)
            raise NotYet("no")

    probe = Never()
    with pytest.raises(DeadlineExpired):
        until = Deadline.after(1000, clock)
        wait_for(probe, what="x", deadline=until, interval_s=0.05, share=0.1, at_most_s=10)
    gaps = [after - before for before, after in pairwise(probe.asked_s)]
    assert gaps[:10] == pytest.approx([0.05] * 10)
    assert gaps == pytest.approx(sorted(gaps[:-1]) + gaps[-1:])  # the last one is cut short
    assert max(gaps) == pytest.approx(10)


def _given(answer: object) -> object:
    return answer


def test_an_answer_that_is_false_is_an_answer(clock):
    """Only NotYet means not yet."""
    answers: tuple[object, ...] = (None, False, 0, "")
    for answer in answers:
        assert (
            wait_for(partial(_given, answer), what="x", deadline=Deadline.after(1, clock)) == answer
        )


def test_waiting_ends_at_the_deadline_with_the_last_reason(clock):
    """Not an interval later; and the message says what was missing in the end."""
    probe, watch = Never(), Stopwatch(clock)
    with pytest.raises(DeadlineExpired) as caught:
        wait_for(probe, what="the guest", deadline=Deadline.after(1, clock), interval_s=0.3)
    assert watch.elapsed_s() == 1.0
    assert probe.asked == 5  # at 0, 0.3, 0.6, 0.9 and, cut short, at 1.0
    assert str(caught.value) == "the guest took longer than 1.0 s; last error: reason 5"


def test_a_probe_is_asked_once_even_after_the_deadline(clock):
    """What is true already is not called late."""
    deadline = Deadline.after(0, clock)
    assert wait_for(Probe(), what="x", deadline=deadline) == "answer"
    probe = Never()
    with pytest.raises(DeadlineExpired, match="reason 1"):
        wait_for(probe, what="x", deadline=deadline)
    assert probe.asked == 1


def test_other_errors_are_tried_again_only_where_that_was_asked_for(clock):
    """``retry_on`` names them; what it does not name comes out at once."""
    deadline = Deadline.after(5, clock)
    probe = Probe(ShellUnreachable("refused"), NotYet("booting"))
    assert wait_for(probe, what="x", deadline=deadline, retry_on=(ShellUnreachable,)) == "answer"
    assert probe.asked == 3
    probe = Probe(ShellUnreachable("refused"))
    with pytest.raises(ShellUnreachable):
        wait_for(probe, what="x", deadline=deadline, retry_on=(WrongState,))
    assert probe.asked == 1


def test_a_retried_error_is_the_last_error_of_the_deadline(clock):
    """The reason is told whatever kind it is."""
    probe = Probe(*[ShellUnreachable("refused", guest="web1")] * 99)
    with pytest.raises(DeadlineExpired) as caught:
        wait_for(probe, what="SSH", deadline=Deadline.after(1, clock), retry_on=(ShellUnreachable,))
    assert isinstance(caught.value.last_error, ShellUnreachable)
    assert "SSH took longer than 1.0 s; last error: web1: refused" in str(caught.value)


def test_an_inner_deadline_is_not_waited_out(clock):
    """A probe's own DeadlineExpired is a result and passes through."""
    probe = Probe(DeadlineExpired("connecting", 0.1))
    with pytest.raises(DeadlineExpired, match="connecting"):
        wait_for(probe, what="x", deadline=Deadline.after(5, clock))
    assert probe.asked == 1


def test_not_yet_is_one_of_our_errors():
    """If one ever gets out, it ends in an exit code and not in a traceback."""
    assert issubclass(NotYet, InfrastructureError)
    assert NotYet("why").exit_code == 3


def test_utc_now_is_the_hosts_wall_clock_in_utc(clock):
    """Aware of its zone, and moved by whoever sets the clock."""
    now = utc_now(clock)
    assert now == datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
    assert now.utcoffset() == timedelta(0)
    clock.step_realtime(-60)
    assert utc_now(clock) == now - timedelta(minutes=1)


def test_the_systems_clocks_are_three_and_none_goes_backwards():
    """CLOCK_BOOTTIME is never behind CLOCK_MONOTONIC, and realtime counts from 1970."""
    for read in (SYSTEM_CLOCK.monotonic_ns, SYSTEM_CLOCK.boottime_ns):
        assert read() <= read()
    monotonic_ns = SYSTEM_CLOCK.monotonic_ns()
    assert SYSTEM_CLOCK.boottime_ns() >= monotonic_ns
    assert SYSTEM_CLOCK.realtime_ns() > 1_700_000_000 * NS_PER_S
    assert Deadline.after(60).remaining_s() == pytest.approx(60, abs=30)
    watch = Stopwatch()
    SYSTEM_CLOCK.sleep(0.001)
    assert watch.elapsed_s() >= 0.001


def test_a_suspended_host_is_told_from_one_whose_clock_was_set():
    """BOOTTIME − MONOTONIC moves with the one only."""
    clock = FakeClock()
    suspension = Suspension(clock)
    clock.advance(3)
    clock.step_realtime(12)
    assert suspension.seconds() == 0
    clock.suspend(12)
    assert suspension.seconds() == 12


def test_a_host_that_was_not_suspended_never_was_for_a_little():
    """However the reading of two clocks is torn apart."""
    suspensions = [Suspension() for _ in range(2000)]
    assert {one.seconds() for one in suspensions} == {0}


def test_clocks_are_compared_by_two_looks_with_nothing_in_between():
    """Beside threads that want the interpreter as well: what is known is within what is stated."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            sum(range(100))

    others = [threading.Thread(target=work) for _ in range(3)]
    for other in others:
        other.start()
    try:
        found = [realtime_ahead(SYSTEM_CLOCK) for _ in range(20_000)]
    finally:
        over.set()
        for other in others:
            other.join()
    surest = min(found, key=lambda one: one.doubt_ns)
    for one in found:  # 0.5 ms: the machine's clock may be slewed meanwhile
        assert abs(one.ns - surest.ns) <= one.doubt_ns + surest.doubt_ns + 500_000
