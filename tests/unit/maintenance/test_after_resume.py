"""In which order guests are looked after when they run again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from harness.clock.policy import CorrectionPolicy
from harness.core.errors import ProbeError
from harness.core.records import ClockReading
from harness.core.timebase import NS_PER_S, Deadline
from harness.maintenance import after_resume, correction_queue
from harness.maintenance.after_resume import correct_and_observe
from harness.maintenance.correction_queue import CorrectionQueue
from harness.maintenance.guest_clock import ClockOutcome
from harness.maintenance.pause.outcome import GuestPause
from tests.unit.maintenance.test_correction_queue import all_wait


def session(name: str, priority: int = 0) -> Any:
    """What is asked of a guest's session here."""
    login = SimpleNamespace(section=SimpleNamespace(priority=priority))
    sampler = SimpleNamespace(can_step=True, heard_ns=0)
    policy = CorrectionPolicy(tolerance_s=0.010)
    return SimpleNamespace(name=name, login=login, sampler=sampler, policy=lambda before: policy)


def was(offset_s: float) -> Any:
    """A guest's clock before its pause."""
    return SimpleNamespace(clock=ClockReading(offset_s=offset_s, uncertainty_s=0.001))


@pytest.fixture
def care(monkeypatch):
    """``care(slow="b")``: guests a and b are looked after; what was done, in order."""

    def make(slow: str, patience_s: float, corrected: str = "") -> list[str]:
        done, gate = [], threading.Event()

        def correct_clock(session, *_, **__):
            if session.name == slow:
                gate.wait(0.5)
            done.append(f"mend {session.name}")
            right = ClockReading(offset_s=0.0, uncertainty_s=0.001)
            return ClockOutcome(None, right if session.name == corrected else None)

        def observe_clock(outcome, session, *_, **__):
            done.append(f"look {session.name}")
            gate.set()
            raise ProbeError("enough")

        monkeypatch.setattr(after_resume, "correct_clock", correct_clock)
        monkeypatch.setattr(after_resume, "observe_clock", observe_clock)
        monkeypatch.setattr(correction_queue, "_TOGETHER_S", patience_s)
        sessions: dict[str, Any] = {name: session(name) for name in "ab"}
        baselines: dict[str, Any] = dict.fromkeys(sessions, was(0.0))
        guests = {name: GuestPause(0, 1, 2, 3) for name in sessions}
        journal: Any = None  # nothing was measured, so there is nothing to note
        pauses = {**guests, "c": GuestPause(0, 1)}
        told = lambda name, outcome: done.append(f"told {name}")  # noqa: E731
        correct_and_observe(sessions, baselines, pauses, journal, Deadline.after(60), told)
        return done

    return make


def test_nobody_is_looked_at_before_every_clock_was_seen_to(care):
    """Looks are work, and the clock of another guest would have to wait for it."""
    done = care(slow="b", patience_s=20)
    assert done[:2] == ["mend a", "mend b"]
    assert sorted(done[2:]) == ["look a", "look b"]


def test_each_clock_that_was_corrected_is_told_of_before_its_guest_is_looked_at(care):
    """Not when all are done: a person sees how far it is. One that was not corrected is no news."""
    done = care(slow="b", patience_s=0.1, corrected="a")
    assert done == ["mend a", "told a", "look a", "mend b", "look b"]


def test_a_guest_that_is_silent_holds_up_the_looks_at_the_others_for_a_few_seconds(care):
    """And then they are looked at without it."""
    assert care(slow="b", patience_s=0.1) == ["mend a", "look a", "mend b", "look b"]


def test_the_clock_that_its_owner_calls_urgent_comes_first_then_the_one_that_is_furthest_off(
    monkeypatch,
):
    """Results are by guest all the same, in the order of the run."""
    order: list[str] = []

    def correct_clock(session, *_, **__):
        order.append(session.name)
        return ClockOutcome(None)

    def observe_clock(*_, **__):
        raise ProbeError("enough")

    monkeypatch.setattr(after_resume, "correct_clock", correct_clock)
    monkeypatch.setattr(after_resume, "observe_clock", observe_clock)
    one_by_one = CorrectionQueue(5, at_once=1, slack=lambda: None)
    monkeypatch.setattr(after_resume, "CorrectionQueue", lambda guests: one_by_one)
    pauses = {
        name: GuestPause(0, 1, 2, stood_s * NS_PER_S)
        for name, stood_s in zip("abcde", (5, 9, 7, 3, 1), strict=True)
    }
    sessions = {name: session(name, priority=name == "d") for name in "abcde"}
    baselines: Any = {name: was(-60.0 if name == "e" else 4.0) for name in sessions}
    journal: Any = None
    with ThreadPoolExecutor() as pool:
        with one_by_one.place(Deadline.after(60)):  # which is none of the guests'
            one_by_one._left += 1
            looked = pool.submit(
                correct_and_observe, sessions, baselines, pauses, journal, Deadline.after(60)
            )
            all_wait(one_by_one, 5)
        after = looked.result(60)
    assert order == ["d", "e", "b", "c", "a"]
    assert list(after) == ["a", "b", "c", "d", "e"]
