"""A representative part of the matrix of ``benchmarks/clock_matrix.py``, on one guest.

Requires: the session's lab. Leaves behind: nothing; chronyd runs in debian-1, its clock right.
"""

from __future__ import annotations

import pytest

from benchmarks.clock_matrix import Case, Guest, representative


@pytest.fixture(scope="module")
def guest(lab, libvirt):
    """debian-1, in which time daemons come and go."""
    found = Guest(lab, libvirt, "debian-1", "wall")
    yield found
    found.attempt(Case("chronyd", "python3", 0.1, 0.0))
    found.close()


@pytest.mark.parametrize("case", representative(), ids=str)
def test_a_clock_is_measured_and_mended(guest, case):
    """The lag is the pause, the clock is right in the end, another program agrees."""
    result = guest.attempt(case)
    assert result.passed, result
    assert abs(result.rtc_lag_s) <= 2, "this guest's RTC goes on through a pause"
