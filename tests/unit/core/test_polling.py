"""Waiting on descriptors: what is readable, and limits that do not fit into poll()."""

from __future__ import annotations

import os
import select

import pytest

from harness.core.polling import readable
from harness.core.timebase import LONGEST_TIMEOUT_S, Deadline, Stopwatch
from harness.testing.clock import FakeClock


@pytest.fixture
def pipes():
    """Two pipes as ``(read, write)`` descriptors."""
    made = (os.pipe(), os.pipe())
    yield made
    for pair in made:
        for descriptor in pair:
            os.close(descriptor)


def test_what_is_readable_is_returned_at_once_even_without_time(pipes):
    """And only that."""
    (quiet, _), (spoken, write) = pipes
    os.write(write, b"x")
    for deadline in (None, Deadline.after(0), Deadline.after(60)):
        assert readable([quiet, spoken], deadline) == {spoken}


def test_a_deadline_that_passes_leaves_nothing(pipes):
    """Not before it has passed, however short it was."""
    watch = Stopwatch()
    assert readable([pipes[0][0]], Deadline.after(0.02)) == frozenset()
    assert watch.elapsed_s() >= 0.02


@pytest.mark.parametrize("limit_s", [3e6, 1e7])
def test_a_limit_of_many_days_is_waited_for(pipes, limit_s):
    """The longest duration that a configuration may hold does not overflow poll()'s C int."""
    (quiet, _), (spoken, write) = pipes
    os.write(write, b"x")
    assert readable([quiet, spoken], Deadline.after(limit_s)) == {spoken}


def test_a_limit_of_many_days_does_not_end_with_the_first_poll(pipes, monkeypatch):
    """What poll() can wait for at once is over; the deadline is not."""
    clock = FakeClock()
    limits_ms = []

    class Poll:
        def register(self, descriptor: int, events: int) -> None:
            pass

        def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
            limits_ms.append(timeout_ms)
            clock.advance(timeout_ms / 1000)
            return []

    monkeypatch.setattr(select, "poll", Poll)
    assert readable([pipes[0][0]], Deadline.after(LONGEST_TIMEOUT_S + 5, clock)) == frozenset()
    assert limits_ms == [LONGEST_TIMEOUT_S * 1000, 5000]
