"""Whole maintenances on real guests, through the command line.

Requires: the session's lab. Leaves behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import pytest

QUICK = ("--duration", "1", "--json")


def checks(guest: dict) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in guest["checks"]}


def test_three_guests_in_two_domains_are_paused_updated_resumed_and_mended(harness):
    """The main job: every promise kept, in every figure of the contract."""
    ended = harness("run", "tiny-1", "tiny-2", "debian-1", *QUICK)
    assert ended.code == 0, ended.err
    record = ended.record
    assert [d["guests"] for d in record["update_domains"]] == [["tiny-1", "debian-1"], ["tiny-2"]]
    for domain in record["update_domains"]:
        assert domain["outcome"] == "pass"
        assert 0 < domain["overhead_s"] < domain["pause_window_s"] < record["budget_s"]
    for guest in record["guests"]:
        assert set(checks(guest).values()) == {"pass"}, guest["checks"]
        clock = guest["clock"]
        lag_s = clock["after_resume"]["offset_s"] - clock["before"]["offset_s"]
        assert lag_s == pytest.approx(-guest["pause_window_s"], abs=0.25)
        assert clock["monotonic_deficit_s"] == pytest.approx(guest["pause_window_s"], abs=0.25)
        end = clock["after_correction"]
        allowed_s = 0.010 if guest["name"] == "debian-1" else 0.050
        assert abs(end["offset_s"]) + end["uncertainty_s"] <= allowed_s


def test_without_correction_the_run_goes_red(harness):
    """The negative control: an uncorrected clock is a broken promise, exit 1."""
    ended = harness("run", "debian-1", "--no-correct", *QUICK)
    guest = ended.record["guests"][0]
    assert ended.code == 1
    assert checks(guest)["clock"] == "fail"
    assert guest["clock"]["after_resume"]["offset_s"] < -0.9
    assert harness("clock", "correct", "debian-1").code == 0
