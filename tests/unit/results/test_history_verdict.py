"""Robust statistics: what is called a regression, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.results.history.verdict import allowed, compare

NIGHTS = [0.010, 0.011, 0.0105, 0.0102, 0.0108, 0.0104, 0.0110]


def worse(tonight: float, nights=NIGHTS, figure: str = "overhead_s") -> bool:
    [found] = compare({figure: [tonight]}, [{figure: [night]} for night in nights])
    return found.worse


def test_noise_is_no_regression_and_a_change_that_matters_is():
    """The least change of overhead that matters is 10 ms."""
    assert not worse(0.0115)
    assert not worse(0.0204)
    assert worse(0.0206)


def test_one_bad_night_before_hides_nothing():
    """A mean would have been moved by it, a median is not."""
    assert worse(0.05, [*NIGHTS, 9.0])


def test_a_small_change_of_a_large_figure_is_none():
    """Less than 10 % of a figure that hardly ever varies."""
    assert not worse(5.4, [5.0] * 10, "pause_window_s")
    assert worse(5.6, [5.0] * 10, "pause_window_s")


def test_a_figure_that_always_varies_may_vary():
    """Four deviations of what it does every night."""
    nights = [1.0, 3.0, 2.0, 4.0, 2.5, 3.5, 1.5]
    assert not worse(8.0, nights, "pause_window_s")
    assert worse(9.0, nights, "pause_window_s")


def test_too_few_nights_give_no_verdict():
    """Four are not enough."""
    assert compare({"overhead_s": [9.0]}, [{"overhead_s": [0.01]}] * 4) == []


def test_a_night_is_the_median_of_its_runs():
    """One slow run of five does not make a slow night."""
    tonight = {"overhead_s": [0.01, 0.01, 9.0, 0.01, 0.01]}
    [found] = compare(tonight, [{"overhead_s": [night]} for night in NIGHTS])
    assert not found.worse


@given(st.lists(st.floats(0, 1e6), min_size=5, max_size=30), st.floats(1e-6, 10))
def test_what_is_usual_is_always_allowed(values, matters):
    """Whatever the nights were like, their median is no regression."""
    from statistics import median

    assert allowed(values, matters) >= median(values) + matters


def test_the_sentence_says_which_figure_and_by_how_much():
    """Fit for a mail."""
    [found] = compare({"overhead_s": [0.021]}, [{"overhead_s": [0.0105]}] * 5)
    assert found.sentence() == (
        "overhead_s: 0.021 s, usually 0.0105 s (+100 %, allowed up to 0.0205 s)"
    )
    assert found.tonight == pytest.approx(0.021)
