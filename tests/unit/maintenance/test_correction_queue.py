"""Whose clock is mended when."""

from __future__ import annotations

import threading

import pytest

from harness.core.fanout import fan_out
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.maintenance import correction_queue
from harness.maintenance.correction_queue import CorrectionQueue


def test_no_more_than_so_many_at_once_and_all_are_over_together():
    """The sixth of six waits for the first; nobody goes on before the last is over."""
    them, lock, said = CorrectionQueue(6, at_once=2), threading.Lock(), []
    busy, most = 0, 0

    def mend(name: str) -> None:
        nonlocal busy, most
        with them.place(Deadline.after(20)) as over:
            with lock:
                busy += 1
                most = max(most, busy)
            SYSTEM_CLOCK.sleep(0.02)
            with lock:
                busy -= 1
                said.append("mended")
            over()
            said.append("looks")

    calls = {name: lambda name=name: mend(name) for name in "abcdef"}
    for answer in fan_out(calls, Deadline.after(20), what="mending").values():
        answer.get()
    assert most == 2
    assert said == ["mended"] * 6 + ["looks"] * 6


def test_nobody_waits_for_long_for_those_who_are_silent(monkeypatch):
    """Neither for their places, nor for them to be over."""
    monkeypatch.setattr(correction_queue, "_QUEUE_S", 0.1)
    monkeypatch.setattr(correction_queue, "_TOGETHER_S", 0.1)
    them = CorrectionQueue(2, at_once=1)
    with them.place(Deadline.after(20)), them.place(Deadline.after(20)):
        pass


def test_most_of_a_short_time_is_left_for_looks():
    """Where one guest is silent until the deadline, the other is still looked at."""
    them, deadline = CorrectionQueue(2), Deadline.after(4)
    with them.place(deadline):
        pass
    assert deadline.remaining_s() > 2


def test_a_deadline_that_has_passed_is_not_waited_for():
    """Whoever has no time left does at once what is left to do."""
    them = CorrectionQueue(2, at_once=1)
    with them.place(Deadline.after(0)), them.place(Deadline.after(0)):
        pass


def test_a_turn_that_ends_in_an_error_makes_room():
    """A bug in one guest's turn is not the next one's."""
    them = CorrectionQueue(1, at_once=1)
    with pytest.raises(ZeroDivisionError), them.place(Deadline.after(20)):
        raise ZeroDivisionError
    with them.place(Deadline.after(20)):
        pass
    assert them._places.acquire(blocking=False)
