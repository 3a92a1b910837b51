"""Several guests at once; one failure or hang never hides or holds up the others."""

from __future__ import annotations

import threading

import pytest

from harness.core import fanout
from harness.core.errors import DeadlineExpired, ShellUnreachable
from harness.core.fanout import FanOut, errors, fan_out, given_up_at
from harness.core.timebase import Deadline, NotYet, wait_for


def all_idle():
    """Both threads of the tests below."""
    if len(fanout._idle) < 2:
        raise NotYet("they are at work")


def test_one_failure_leaves_the_other_answers():
    """Each call has its own answer, in the order given."""

    def fail():
        raise ShellUnreachable("no", guest="b")

    answers = fan_out({"a": lambda: 1, "b": fail, "c": lambda: 3}, Deadline.after(5), what="x")
    assert list(answers) == ["a", "b", "c"]
    assert (answers["a"].get(), answers["c"].get()) == (1, 3)
    assert set(errors(answers)) == {"b"}
    with pytest.raises(ShellUnreachable):
        answers["b"].get()


def test_a_call_that_hangs_is_answered_for_at_the_deadline():
    """The hanging call is named; the others keep their answers."""
    release = threading.Event()
    answers = fan_out(
        {"hangs": release.wait, "works": lambda: True}, Deadline.after(0.1), what="pausing"
    )
    release.set()
    assert answers["works"].get() is True
    assert isinstance(answers["hangs"].error, DeadlineExpired)
    assert "hangs: pausing" in str(answers["hangs"].error)


def test_calls_really_run_at_the_same_time():
    """Two calls that wait for each other both return."""
    barrier = threading.Barrier(2, timeout=5)
    answers = fan_out({"a": barrier.wait, "b": barrier.wait}, Deadline.after(5), what="x")
    assert not errors(answers)


def test_a_bug_is_never_taken_for_a_verdict():
    """An exception that is not ours comes out again."""
    answers = fan_out({"a": lambda: 1 / 0}, Deadline.after(5), what="x")
    with pytest.raises(ZeroDivisionError):
        errors(answers)


def test_what_has_returned_can_be_had_while_the_rest_is_waited_for():
    """In two steps: begun, and answered for when all have returned or are given up."""
    release = threading.Event()
    deadline = Deadline.after(5)
    begun = FanOut({"waits": release.wait, "works": lambda: 1}, deadline, what="pausing")
    assert not begun.wait(Deadline.after(0.05))
    assert set(begun.returned()) == {"works"}
    assert isinstance(begun.answers()["waits"].error, DeadlineExpired)
    release.set()
    assert begun.wait(deadline)
    assert list(begun.answers()) == ["waits", "works"]
    assert begun.answers()["waits"].get() is True
    assert begun.wait(Deadline.after(0)), "asked again, it waits for nothing"


def test_a_call_can_tell_that_its_thread_is_given_up_at_its_deadline():
    """At that very one: another deadline, or a thread of nobody, says nothing."""
    deadline, other = Deadline.after(5), Deadline.after(5)

    def inner():
        within = fan_out({"": lambda: given_up_at(other)}, other, what="x")[""].get()
        return given_up_at(deadline), given_up_at(other), within

    assert fan_out({"": inner}, deadline, what="x")[""].get() == (True, False, True)
    assert not given_up_at(deadline)


@pytest.fixture
def no_threads(monkeypatch):
    """A machine that is out of threads, once what comes before has hired some."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(fanout, "_idle", [])
    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


def test_without_threads_the_calls_are_made_one_after_the_other(no_threads):
    """A machine out of threads can still resume its guests."""
    no_threads()
    answers = fan_out({"a": lambda: 1, "b": lambda: 2}, Deadline.after(5), what="resuming")
    assert [answer.get() for answer in answers.values()] == [1, 2]


def test_threads_that_were_hired_before_are_there_when_none_can_be_started(no_threads):
    """Two calls that wait for each other, twice."""
    fanout.hire(2)
    no_threads()
    for _ in range(2):
        barrier = threading.Barrier(2, timeout=5)
        answers = fan_out({"a": barrier.wait, "b": barrier.wait}, Deadline.after(5), what="x")
        assert not errors(answers)
        wait_for(all_idle, what="idle threads", deadline=Deadline.after(5), interval_s=0.001)


def test_a_thread_whose_call_hangs_is_not_used_again(no_threads):
    """The next call has the other one."""
    release = threading.Event()
    fanout.hire(2)
    no_threads()
    fan_out({"hangs": release.wait}, Deadline.after(0.01), what="x")
    assert fan_out({"a": lambda: 1}, Deadline.after(5), what="x")["a"].get() == 1
    release.set()
