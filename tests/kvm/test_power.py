"""The host itself is lost in the middle of a window: its power is cut, and comes back.

Requires: the lab box with guest kvm-1. Leaves behind: the box with another kvm-1.
"""

from __future__ import annotations

import pytest

from tests.kvm.conftest import bring_up, passed, until_state

pytestmark = pytest.mark.ends_guests


def test_after_a_power_cut_in_the_window_nothing_is_claimed_that_did_not_happen(guest):
    """The guests are gone, and `recover` and the record say so; the next run works."""
    guest.start("run", "kvm-1", "--duration", "20")
    until_state(guest, "kvm-1", "paused")
    guest.outside("cut")
    guest.outside("up")

    ended = guest.harness("recover", "--json", "--no-report")
    assert ended.code == 0, ended.out + ended.err
    (run,) = ended.record["runs"]
    (lost,) = run["guests"]
    assert (lost["name"], lost["action"]) == ("kvm-1", "has ended")
    assert lost["clock"] is None
    record = guest.harness("report", run["run_id"], "--json").record
    assert (record["outcome"], record["exit_code"]) == ("error", 130)
    assert record["finished_at"] is not None
    (told,) = record["guests"]
    assert told["outcome"] == "error"
    assert told["pause_window_s"] is None  # nobody resumed it
    assert told["clock"]["after_resume"] is told["clock"]["after_correction"] is None
    assert record["update"]["returncode"] is None  # it did not end
    assert guest.harness("recover", "--json").record["runs"] == []

    bring_up(guest, "kvm-1")
    record = passed(guest.harness("run", "--duration", "1", "--json", "--no-report"))
    assert [(g["name"], g["outcome"]) for g in record["guests"]] == [("kvm-1", "pass")]
