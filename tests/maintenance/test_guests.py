"""What is found of a guest after its resume: its clock, its boot, its log, its probes."""

from __future__ import annotations

import stat
from functools import partial
from pathlib import Path

import pytest

from harness.core.errors import ShellUnreachable
from harness.core.records import Outcome
from harness.results.journal import Member
from tests.maintenance.conftest import broken, of, verdicts
from tests.maintenance.updates import Hooked, raising

PASS, FAIL, ERROR, SKIP = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.SKIP


def executable(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_guest_that_is_silent_after_its_resume_could_not_be_judged(house):
    """Its process can be seen all the same, and the next domain is left alone."""
    at = house()
    at.guests[0].after_resume = "silent"
    record = at.maintain(mend_timeout_s=0.5).record
    guest = of(record, "web1")
    assert (guest.outcome, record.exit_code) == (ERROR, 3)
    said = verdicts(guest)
    assert (said["same-process"], said["pause-window"]) == ("pass", "pass")
    assert {said[name] for name in ("clock", "lag", "frozen", "same-boot")} == {"error"}
    assert guest.clock.after_resume is None
    assert of(record, "web2").outcome is SKIP


def test_a_guest_whose_connection_broke_is_logged_in_to_again(house):
    """A second connection tells its boot id, so a reset is told from a broken network."""
    at = house("web1")
    guest = at.guests[0]
    guest.after_resume = "unreachable"

    def come_back() -> None:
        guest.unreachable = len(at.connector.logins) in (2, 3)

    at.connector.before["web1"] = come_back
    record = of(at.maintain(mend_timeout_s=1.5).record, "web1")
    assert verdicts(record)["same-boot"] == "pass"
    assert "connection broke" in broken(record)["clock"]
    assert len(at.connector.logins) == 4


@pytest.mark.parametrize("answer", [raising(ShellUnreachable("no")), None])
def test_a_guest_that_cannot_be_logged_in_to_again_has_no_boot_id(house, answer):
    """Whether the login is refused, or what it runs is not answered."""
    at = house("web1")
    guest = at.guests[0]
    guest.after_resume = "unreachable"

    def second() -> None:
        if len(at.connector.logins) > 1:
            if answer is not None:
                answer()
            guest.unreachable, guest.no_linux = False, True

    at.connector.before["web1"] = second
    record = of(at.maintain(mend_timeout_s=0.6).record, "web1")
    assert verdicts(record)["same-boot"] == "error"


def test_a_guest_that_was_rebooted_broke_a_promise(house):
    """Another boot id."""
    at = house("web1")
    at.guests[0].after_resume = "rebooted"
    record = at.maintain().record
    assert list(broken(of(record, "web1"))) == ["same-boot"]
    assert record.exit_code == 1


def test_a_stall_in_the_kernel_log_breaks_a_promise_and_is_kept(house):
    """The new lines are in the run folder, with no line from before the pause."""
    at = house("web1")
    at.guests[0].says_on_resume = ("rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",)
    finished = at.maintain()
    assert "detected stalls" in broken(of(finished.record, "web1"))["kernel-log"]
    kept = (finished.folder.guest("web1") / "kernel.log").read_text()
    assert "detected stalls" in kept
    assert "Linux version" not in kept
    assert (finished.folder.guest("web1") / "clock-samples.json").exists()


def test_a_kernel_log_that_this_user_may_not_read_is_skipped(house):
    """Known before the pause."""
    at = house("web1")
    at.guests[0].uid, at.guests[0].kernel_log_denied = 1000, True
    record = at.maintain().record
    assert verdicts(of(record, "web1"))["kernel-log"] == "skip"
    assert record.outcome is PASS


def test_the_last_line_marks_the_log_where_the_user_is_not_root(house):
    """What is new comes after it."""
    at = house("web1")
    at.guests[0].uid, at.guests[0].says_on_resume = 1000, ("watchdog: BUG: soft lockup",)
    assert list(broken(of(at.maintain().record, "web1"))) == ["kernel-log"]


def test_a_guest_that_was_not_frozen_is_found_out(house):
    """Its clocks went on: then the pause is not what we think it is."""
    at = house("web1")
    at.guests[0].ticks_on = True
    record = of(at.maintain(clock__lag_tolerance_s=0.01).record, "web1")
    assert list(broken(record)) == ["lag", "frozen"]
    assert record.stale_clock_window_s is not None
    assert record.clock.method is None


def test_another_process_is_another_guest(house):
    """Its RAM was built anew."""
    at = house("web1")
    other = at.host.processes["web1"].__class__(99, 99)
    record = at.maintain(update=Hooked(lambda: at.host.processes.update(web1=other))).record
    assert "same-process" in broken(of(record, "web1"))


def test_a_process_that_could_not_be_looked_at_is_not_called_gone(house):
    """The right to see it was lost in the meantime; one that ended is gone."""
    at = house("web1")
    hide = partial(setattr, at.host, "hides_processes", True)
    record = of(at.maintain(update=Hooked(hide)).record, "web1")
    assert verdicts(record)["same-process"] == "error"
    at.host.hides_processes = False
    record = of(at.maintain(update=Hooked(at.host.processes.clear)).record, "web1")
    assert (verdicts(record)["same-process"], broken(record).get("same-process")) == ("fail", "")


def test_processes_that_are_hidden_are_not_said_to_live_on(house):
    """``hidepid``: this user sees its own only, so nothing is said about the others."""
    at = house("web1", checks__enable=["processes", "identity"])
    at.guests[0].sees_processes = False
    record = of(at.maintain().record, "web1")
    assert verdicts(record) == {"identity": "pass", "processes": "skip"}
    assert record.facts["time_daemon"] == "unknown"


def test_a_step_that_is_refused_leaves_the_clock_wrong_and_says_why(house):
    """EPERM, with what can be done about it; every attempt is in the record."""
    at = house("web1")
    at.guests[0].step_refusal, at.guests[0].guest_agent = "1", False
    record = of(at.maintain().record, "web1")
    assert list(broken(record)) == ["clock"]
    assert "EPERM" in broken(record)["clock"]
    assert "CAP_SYS_TIME" in broken(record)["clock"]
    assert record.clock.attempts
    assert record.stale_clock_window_s is None


def test_with_correction_off_the_clock_stays_as_slow_as_the_pause_was_long(house):
    """The run must fail: else its checks are worth nothing."""
    at = house("web1")
    record = at.maintain(clock__correct=False).record
    assert (record.exit_code, list(broken(of(record, "web1")))) == (1, ["clock"])
    assert at.guests[0].offset_s < -0.04


@pytest.mark.parametrize(("allowed", "outcome"), [(False, FAIL), (True, PASS)])
def test_a_fast_clock_is_set_back_only_where_that_is_allowed(house, allowed, outcome):
    """It was fast before the pause."""
    at = house("web1")
    at.guests[0].offset_s = 2.0
    assert at.maintain(clock__allow_backward=allowed).record.outcome is outcome


def test_a_clock_is_put_back_to_the_offset_that_it_had(house):
    """Where that is asked for."""
    at = house("web1")
    at.guests[0].offset_s = -7.0
    record = at.maintain(clock__restore_offset=True).record
    assert record.outcome is PASS
    assert abs(at.guests[0].offset_s + 7.0) < 0.03


def test_a_small_offset_is_slewed_and_no_clock_jumps(house):
    """The method of choice below ``slew_below_s``."""
    at = house("web1")
    settings = {"clock__slew_below_s": 0.5, "mend_timeout_s": 20.0}
    record = at.maintain(update__duration_s=0.06, **settings).record
    assert of(record, "web1").clock.method == "slew"
    assert record.outcome is PASS


@pytest.mark.parametrize(
    ("daemon", "refuses", "outcome"),
    [
        ("chronyd", False, PASS),
        ("chronyd", True, ERROR),
        ("systemd-timesyn", False, PASS),
        ("ntpd", False, PASS),
    ],
)
def test_a_time_daemon_is_told_of_the_step(house, daemon, refuses, outcome):
    """One that cannot be told may undo it: right now, but nobody can tell for how long."""
    at = house("web1")
    at.guests[0].time_daemon, at.guests[0].chronyc_refuses = daemon, refuses
    record = at.maintain().record
    assert record.outcome is outcome
    guest = of(record, "web1")
    assert guest.clock.method in ("chronyd", "timesyncd", "ntpd")
    assert bool(guest.clock.doubt) is refuses
    assert guest.facts["time_daemon"] != "none"


@pytest.mark.parametrize(
    ("method", "abilities", "interpreter"),
    [
        ("relative-step", "step", "perl"),
        ("ptp-kvm", "ptp", "python3"),
        ("date-at-second", "date rtc", "sh"),
        ("guest-agent", "", "python3"),
    ],
)
def test_each_method_brings_the_clock_within_tolerance(house, method, abilities, interpreter):
    """By itself, in a guest that can do nothing else."""
    at = house("web1")
    at.guests[0].abilities, at.guests[0].interpreters = abilities, (interpreter,)
    settings = {"update__duration_s": 0.4, "clock__tolerance_s": 0.15}
    record = of(at.maintain(**settings).record, "web1")
    assert (record.outcome, record.clock.method) == (PASS, method)
    assert record.facts["interpreter"] == interpreter


def test_the_guest_agent_is_a_second_opinion(house):
    """Beside ours, where there is one; else there is none, and nothing is amiss."""
    at = house("web1")
    clock = of(at.maintain().record, "web1").clock
    assert clock.guest_agent_agrees
    assert abs(clock.rtc_offset_s) < 1.5
    at.guests[0].guest_agent, at.guests[0].abilities = False, "step"
    clock = of(at.maintain().record, "web1").clock
    assert (clock.guest_agent, clock.rtc_offset_s) == (None, None)


def test_a_watch_looks_on_and_is_judged(house):
    """With a probe in the guest, from before the pause."""
    at = house("web1")
    record = of(at.maintain(clock__watch_s=0.1, checks__enable=["watch"]).record, "web1")
    assert record.clock.watch.readings > 1
    assert "watch" in verdicts(record)


@pytest.mark.parametrize("interpreters", [("python3", "perl", "sh"), ("sh",)])
def test_with_every_check_on_no_promise_is_broken(house, interpreters):
    """What cannot be watched in memory is skipped, known before the pause."""
    at = house("web1")
    at.guests[0].interpreters = interpreters
    at.host.processes.clear()
    record = of(at.maintain(checks__enable=[]).record, "web1")
    said = verdicts(record)
    assert {"pass", "skip"} == set(said.values()), broken(record)
    passed = {name for name, outcome in said.items() if outcome == "pass"}
    assert {"processes", "mounts", "connections", "tcp-session"} <= passed
    if "python3" in interpreters:
        assert {"canary", "disk", "timers"} <= passed


def test_a_kernel_log_that_was_cleared_in_the_pause_is_no_pass(house):
    """What it said right after the resume is lost; what it still says of a stall counts."""
    at = house("web1", checks__enable=["kernel-log"])
    record = of(at.maintain(update=Hooked(at.guests[0].kernel_log.clear)).record, "web1")
    assert verdicts(record) == {"kernel-log": "error"}
    at.guests[0].says_on_resume = ("watchdog: BUG: soft lockup",)
    record = of(at.maintain(update=Hooked(at.guests[0].kernel_log.clear)).record, "web1")
    assert verdicts(record) == {"kernel-log": "fail"}


def test_a_users_own_check_that_could_not_tell_is_not_left_out(house, tmp_path):
    """It hung after the pause: asked for, and not judged."""
    hung = executable(tmp_path / "hung", '[ "$HARNESS_STAGE" != after ] || exec sleep 60')
    own = [{"name": "db", "command": [hung], "timeout_s": 0.5}]
    at = house("web1", checks__own=own, checks__enable=["same-boot"])
    guest = of(at.maintain().record, "web1")
    assert verdicts(guest) == {"same-boot": "pass", "own:db": "error"}
    assert "after: did not end within 0.5 s" in broken(guest)["own:db"]


def test_a_users_own_check_decides_as_well(house, tmp_path):
    """Its exit status is the outcome; it is told which guest, and runs in each stage."""
    told = tmp_path / "told"
    good = executable(tmp_path / "good", f'echo "$HARNESS_GUEST $HARNESS_STAGE" >>{told}')
    bad = executable(tmp_path / "bad", '[ "$HARNESS_STAGE" != after ]')
    own = [{"name": "good", "command": [good]}, {"name": "bad", "command": [bad]}]
    record = of(house("web1").maintain(checks__own=own, update__duration_s=0.3).record, "web1")
    assert {"own:good", "own:bad"} <= {name.replace("own/", "own:") for name in verdicts(record)}
    assert record.outcome is FAIL
    assert told.read_text().split("\n")[:3] == ["web1 before", "web1 during", "web1 after"]


def test_one_that_was_never_seen_after_the_pause_has_probes_that_say_so(house):
    """A guest that was not resumed by this run is left alone: its probes fell silent."""
    at = house("web1")
    update = Hooked(lambda: at.host.states.update(web1=at.host.states["web1"].GONE))
    record = of(at.maintain(update=update, checks__enable=["canary", "clock"]).record, "web1")
    assert "could not be asked after the pause" in broken(record)["canary"]
    assert record.pause_inner_s is None
    assert Member("web1", "uuid-web1").name == record.name
