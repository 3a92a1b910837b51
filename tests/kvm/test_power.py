"""The host itself is lost in the middle of a window: its power is cut, and comes back.

Requires: the lab box with its two guests. Leaves behind: the box with one new guest.
"""

from __future__ import annotations

from tests.kvm.conftest import bring_up, passed, until_state


def test_after_a_power_cut_in_the_window_nothing_is_claimed_that_did_not_happen(guests):
    """The guests are gone, and `recover` and the record say so; the next run works."""
    guests.start("run", "kvm-1", "--duration", "20")
    until_state(guests, "kvm-1", "paused")
    guests.outside("cut")
    guests.outside("up")

    ended = guests.harness("recover", "--json", "--no-report")
    assert ended.code == 0, ended.out + ended.err
    (run,) = ended.record["runs"]
    (lost,) = run["guests"]
    assert (lost["name"], lost["action"]) == ("kvm-1", "has ended")
    assert lost["clock"] is None
    record = guests.harness("report", run["run_id"], "--json").record
    assert (record["outcome"], record["exit_code"]) == ("error", 130)
    assert record["finished_at"] is not None
    (guest,) = record["guests"]
    assert guest["outcome"] == "error"
    assert guest["pause_window_s"] is None  # nobody resumed it
    assert guest["clock"]["after_resume"] is guest["clock"]["after_correction"] is None
    assert record["update"]["returncode"] is None  # it did not end
    assert guests.harness("recover", "--json").record == {"runs": []}

    bring_up(guests, "kvm-1")
    record = passed(guests.harness("run", "--duration", "1", "--json", "--no-report"))
    assert [(g["name"], g["outcome"]) for g in record["guests"]] == [("kvm-1", "pass")]
