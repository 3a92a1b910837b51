"""The arithmetic of comparing clocks: the truth is always inside the stated interval."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock.arithmetic import (
    FASTEST_SLEW,
    Sample,
    best,
    consistent,
    describe,
    judge_offset,
    surer,
)
from harness.core.records import ClockReading, Outcome

SECOND = 1_000_000_000
#: A guest may be a day off either way, a packet may take five seconds.
offsets_ns = st.integers(-86_400 * SECOND, 86_400 * SECOND)
delays_ns = st.integers(0, 5 * SECOND)


def exchange(offset_ns: int, there_ns: int, turnaround_ns: int, back_ns: int) -> Sample:
    """What would be measured if the truth were this."""
    sent = 1_800_000_000 * SECOND
    arrived = sent + there_ns
    answered = arrived + turnaround_ns
    received = answered + back_ns
    return Sample(
        host_sent_ns=sent,
        guest_received_ns=arrived + offset_ns,
        guest_sent_ns=answered + offset_ns,
        host_received_ns=received,
        host_sent_monotonic_ns=sent,
        host_received_monotonic_ns=received,
        guest_monotonic_ns=arrived + offset_ns,
    )


@given(offsets_ns, delays_ns, delays_ns, delays_ns)
def test_the_truth_is_within_the_stated_uncertainty(offset_ns, there_ns, turnaround_ns, back_ns):
    """However asymmetric the two ways are, and however long the guest thinks."""
    sample = exchange(offset_ns, there_ns, turnaround_ns, back_ns)
    assert abs(sample.offset_ns - offset_ns) <= sample.uncertainty_ns
    assert sample.round_trip_ns == there_ns + back_ns


@given(offsets_ns, delays_ns)
def test_a_symmetric_way_gives_the_offset_exactly(offset_ns, way_ns):
    """Latency alone, 300 ms or 3 s, does not move the estimate."""
    assert exchange(offset_ns, way_ns, 0, way_ns).offset_ns == offset_ns


@given(offsets_ns, delays_ns, delays_ns, delays_ns)
def test_the_monotonic_comparison_contains_the_truth_too(offset_ns, there_ns, turn_ns, back_ns):
    """Whenever between receiving and answering it was read."""
    reading = best([exchange(offset_ns, there_ns, turn_ns, back_ns)])
    error_s = abs(reading.monotonic_s - offset_ns / SECOND)
    assert error_s <= reading.monotonic_uncertainty_s + 1e-6


@given(offsets_ns, st.lists(st.tuples(delays_ns, delays_ns), min_size=1, max_size=8))
def test_samples_of_one_steady_clock_are_consistent_and_the_quickest_is_kept(offset_ns, ways):
    """The best of several is never less sure than any of them."""
    samples = [exchange(offset_ns, there, 0, back) for there, back in ways]
    assert consistent(samples)
    chosen = best(samples)
    assert chosen.samples == len(samples)
    assert chosen.uncertainty_s == pytest.approx(min(s.uncertainty_ns for s in samples) / SECOND)


@given(offsets_ns, st.integers(1, 1000), st.integers(1, 1000))
def test_a_clock_that_jumps_between_samples_is_noticed(offset_ns, there_ms, back_ms):
    """A jump larger than both uncertainties cannot be one clock."""
    first = exchange(offset_ns, there_ms * 1_000_000, 0, back_ms * 1_000_000)
    jump = (there_ms + back_ms) * 2_000_000 + 10
    second = exchange(offset_ns + jump, there_ms * 1_000_000, 0, back_ms * 1_000_000)
    assert not consistent([first, second])


@given(st.floats(-10, 10), st.floats(0, 1), st.floats(0.001, 1))
def test_the_interval_rule(offset_s, uncertainty_s, tolerance_s):
    """PASS only if all of the interval is within, FAIL only if all of it is outside."""
    verdict = judge_offset(offset_s, uncertainty_s, tolerance_s)
    if verdict is Outcome.PASS:
        assert abs(offset_s) + uncertainty_s <= tolerance_s
    elif verdict is Outcome.FAIL:
        assert abs(offset_s) - uncertainty_s > tolerance_s
    else:
        assert verdict is Outcome.ERROR


def test_people_are_shown_words():
    """Negative is slow."""
    assert describe(-5.0) == "5.000 s slow"
    assert describe(0.001) == "1.0 ms fast"
    assert describe(-0.99999999) == "1.000 s slow"
    assert describe(0.00099999999) == "1.0 ms fast"


@given(offsets_ns, st.integers(1, SECOND), st.integers(1, SECOND), st.integers(1, 3600 * SECOND))
def test_a_turnaround_longer_than_the_whole_exchange_is_not_sure_and_never_the_best(
    offset_ns, there_ns, back_ns, jump_ns
):
    """The guest's clock was set forwards while it answered: it is not known to ± 1 ns."""
    honest = exchange(offset_ns, there_ns, 0, back_ns)
    jumped = replace(honest, guest_sent_ns=honest.guest_sent_ns + jump_ns)
    assert jumped.possible == (jump_ns <= (there_ns + back_ns) * (1 + FASTEST_SLEW) + 1)
    assert honest.possible
    assert abs(jumped.offset_ns - offset_ns) <= jump_ns / 2 + max(there_ns, back_ns)
    if not jumped.possible:
        assert jumped.uncertainty_ns >= (jump_ns - there_ns - back_ns) / 2


@pytest.mark.parametrize(
    ("offset_s", "said"),
    [
        (0.0, "0 µs fast"),
        (-0.000045, "45 µs slow"),
        (0.0628, "62.8 ms fast"),
        (-5.0034, "5.003 s slow"),
        (3600.0, "3600.000 s fast"),
    ],
)
def test_people_are_told_an_offset_in_the_unit_that_fits(offset_s, said):
    assert describe(offset_s) == said


@given(st.floats(-1, 1), st.floats(0, 0.1), st.floats(0, 0.1), st.floats(0, 60), st.data())
def test_of_two_readings_of_a_clock_that_was_left_alone_either_tells_the_truth_of_now(
    truth_s, earlier_s, later_s, apart_s, data
):
    """Each was as wrong as it said at most, and the clock drifted by 500 ppm at most."""
    wrong = lambda most_s: data.draw(st.floats(-most_s, most_s))  # noqa: E731
    earlier = ClockReading(offset_s=truth_s + wrong(earlier_s), uncertainty_s=earlier_s)
    now_s = truth_s + wrong(5e-4 * apart_s)
    later = ClockReading(offset_s=now_s + wrong(later_s), uncertainty_s=later_s)
    found = surer(earlier, later, apart_s)
    assert abs(found.offset_s - now_s) <= found.uncertainty_s + 1e-9
    assert found.uncertainty_s <= later_s


def test_a_reading_that_is_contradicted_by_a_later_one_is_no_knowledge():
    """The clock was set in between; nor is it if the host's was."""
    earlier = ClockReading(offset_s=0.0, uncertainty_s=0.001, host_ahead_s=5.0)
    later = ClockReading(offset_s=0.050, uncertainty_s=0.040, host_ahead_s=5.0)
    assert surer(earlier, later, 1.0) == later
    agrees = later.model_copy(update={"offset_s": 0.030})
    assert surer(earlier, agrees, 1.0).uncertainty_s == pytest.approx(0.0015)
    assert surer(earlier, agrees.model_copy(update={"host_ahead_s": 5.1}), 1.0).offset_s == 0.030
