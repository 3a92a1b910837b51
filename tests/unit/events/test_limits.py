"""What one guest may cost, by a clock that the test moves."""

from __future__ import annotations

import asyncio

import pytest

from harness.events.faults import KINDS, check_kind, faulty
from harness.events.instance import is_version
from harness.events.limits import RateLimit
from harness.testing.clock import FakeClock


def test_five_in_any_second_and_no_more_for_each_guest():
    """Not ten across the turn of a second; a refused one does not count."""
    clock = FakeClock()
    rate = RateLimit(clock=clock)
    assert [rate.admit("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert rate.admit("b")
    clock.advance(0.9)
    assert not rate.admit("a")
    clock.advance(0.11)
    assert [rate.admit("a") for _ in range(6)] == [True] * 5 + [False]


def test_no_limit_is_no_limit():
    """For benchmarks."""
    rate = RateLimit(0, FakeClock())
    assert all(rate.admit("a") for _ in range(100))


@pytest.mark.parametrize("kind", [*KINDS, "slow:5", "slow:5s", "slow:2m", "slow:0"])
def test_what_is_a_fault(kind):
    """As it was written."""
    assert check_kind(kind) == kind


@pytest.mark.parametrize(
    "wrong", ["", "404", "slow:x", "slow:121", "slow:3m", "slow:-1", "slow:nan", "500:1", "Slow"]
)
def test_what_is_no_fault(wrong):
    """Refused before any guest meets it."""
    with pytest.raises(ValueError):
        check_kind(wrong)


def test_only_the_first_answer_is_slow_and_it_is_right():
    """None: the true answer follows."""
    assert asyncio.run(faulty("slow:10ms", first=True)) is None
    assert asyncio.run(faulty("slow:100", first=False)) is None
    assert asyncio.run(faulty(None, first=True)) is None


@pytest.mark.parametrize("text", ["2021-02-01", "2017-12-01"])
def test_clients_ask_for_many_versions_of_the_instance(text):
    """All have what we answer."""
    assert is_version(text)
    assert not is_version(text + "x")
