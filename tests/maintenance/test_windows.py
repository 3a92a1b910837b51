"""Whole maintenances of a Windows guest, which is a stand-in: nothing here was run on Windows."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from harness.core.errors import PlanError
from harness.core.records import Outcome
from harness.core.settings import CheckName
from harness.guest import windows
from harness.guest.windows import UNPROVEN
from harness.host.protocol import Timekeeping
from tests.maintenance.conftest import QUICK, House, broken, of, verdicts

ALL = [*QUICK, "processes", "mounts", "connections", "canary", "disk", "timers", "tcp-session"]


@pytest.fixture
def mixed(house) -> House:
    """web1 is a Windows, web2 a Linux."""
    built = house()
    built.guests[0].become_windows()
    return built


def test_a_windows_guest_is_paused_corrected_and_judged(mixed):
    """Beside a Linux guest in the same run; its clock is stepped, and W32Time told of it."""
    record = mixed.maintain(update__duration_s=0.5).record
    guest = of(record, "web1")
    assert record.outcome is Outcome.PASS
    assert set(verdicts(guest).values()) == {"pass"}, broken(guest)
    assert guest.clock.method == "windows"
    assert guest.clock.after_resume.offset_s == pytest.approx(-guest.pause_window_s, abs=0.1)
    assert windows.RESYNC in mixed.guests[0].windows.asked
    assert of(record, "web2").clock.method != "windows"


def test_what_cannot_be_judged_is_skipped_and_the_rest_counts(mixed):
    """Each with its reason; the guest's own verdict is that of what was judged."""
    guest = of(mixed.maintain(checks__enable=ALL).record, "web1")
    skipped = {name for name, outcome in verdicts(guest).items() if outcome == "skip"}
    assert skipped == {"canary", "disk", "timers", "tcp-session"}, broken(guest)
    assert all("in a Windows guest yet" in broken(guest)[name] for name in skipped)
    assert guest.outcome is Outcome.PASS


def test_the_record_says_in_so_many_words_that_it_was_not_run_on_windows(mixed):
    """And so does a warning, with the command that shows what it does."""
    record = mixed.maintain().record
    assert of(record, "web1").facts["unproven"] == UNPROVEN
    assert "not run on Windows" in UNPROVEN
    assert "unproven" not in of(record, "web2").facts
    assert any("harness doctor --prove windows" in one for one in record.warnings)


def test_a_windows_guest_that_was_reset_is_seen(mixed):
    """By when its first process was created."""
    mixed.guests[0].after_resume = "rebooted"
    guest = of(mixed.maintain().record, "web1")
    assert verdicts(guest)["same-boot"] == "fail"


def test_a_disk_that_gave_up_waiting_is_seen_in_the_event_log(mixed):
    """Of the events since the marker."""
    told = mixed.guests[0].windows
    original = told.answer

    def answer(program: str) -> list[str]:
        if "EventRecordID" in program:
            told.events.append("1042 vioscsi 129 Reset to device was issued.")
        return original(program)

    told.answer = answer
    guest = of(mixed.maintain().record, "web1")
    assert verdicts(guest)["kernel-log"] == "fail"
    assert "vioscsi 129" in broken(guest)["kernel-log"]


CATCHUP = Timekeeping(offset="localtime", rtc_tickpolicy="catchup", enlightenments=("vapic",))


def test_missed_ticks_are_forgotten_by_libvirt_before_the_step(mixed):
    """Where QEMU may owe them; and the RTC is expected in the host's local time."""
    mixed.host.timekeeping["web1"] = mixed.host.timekeeping["web2"] = CATCHUP
    record = mixed.maintain().record
    assert of(record, "web1").outcome is Outcome.PASS, broken(of(record, "web1"))
    assert [name for call, name in mixed.host.calls if call == "set time"] == ["web1"]
    assert "tick policy catchup" in of(record, "web1").facts["timekeeping"]
    assert "less is no fault" in next(
        check.detail for check in of(record, "web1").checks if check.name == "lag"
    )


def test_with_hyper_v_timers_no_tick_is_owed(mixed):
    """The clock is stepped, and the guest agent left alone."""
    mixed.host.timekeeping["web1"] = replace(CATCHUP, enlightenments=("stimer", "synic"))
    assert of(mixed.maintain().record, "web1").outcome is Outcome.PASS
    assert not [name for call, name in mixed.host.calls if call == "set time"]


def test_ticks_that_are_still_owed_make_no_green_run(mixed):
    """No guest agent answers: the clock is right now, and it is not claimed that it stays so."""
    mixed.host.timekeeping["web1"] = CATCHUP
    mixed.guests[0].guest_agent = False
    record = mixed.maintain().record
    guest = of(record, "web1")
    assert verdicts(guest)["clock"] == "error"
    assert "ticks that the guest missed" in guest.clock.doubt
    assert record.exit_code == 3


def test_a_windows_guest_without_a_login_is_maintained_by_its_guest_agent(house):
    """PowerShell by guest-exec; the clock as the agent tells it, to a tick of Windows."""
    at = house("web1", access="agent")
    told = at.guests[0].become_windows()
    record = at.maintain(clock__tolerance_s=None, update__duration_s=0.5).record
    guest = of(record, "web1")
    assert record.exit_code == 0, broken(guest)
    assert {name for name, said in verdicts(guest).items() if said == "skip"} == {"frozen"}
    assert (guest.clock.method, guest.identity.bound_by) == ("windows", "agent-channel")
    assert guest.clock.before.uncertainty_s >= 0.015625
    assert windows.RESYNC in told.asked
    assert (guest.facts["kernel"], at.connector.logins) == ("Windows 10.0.20348", [])


def test_by_the_guest_agent_missed_ticks_are_forgotten_as_well(house):
    """By libvirt's own call, and not by the agent's command, of which QEMU hears nothing."""
    at = house("web1", access="agent")
    at.guests[0].become_windows()
    at.host.timekeeping["web1"] = CATCHUP
    guest = of(at.maintain(clock__tolerance_s=None).record, "web1")
    assert (guest.clock.method, guest.clock.doubt) == ("windows", None)
    assert "set time" in [call for call, _ in at.host.calls]
    assert "guest-set-time" not in at.guests[0].asked


def test_a_windows_whose_agent_runs_no_program_is_told_by_what_it_is(house):
    """guest-get-osinfo says that it is one; no program for Linux is tried."""
    at = house("web1", access="agent")
    at.guests[0].become_windows()
    at.guests[0].agent_blocks = frozenset({"guest-exec", "guest-exec-status"})
    guest = of(at.maintain(clock__tolerance_s=None).record, "web1")
    assert guest.facts["kernel"] == "Windows 10.0.20348"
    assert verdicts(guest)["clock"] == "pass"
    assert guest.facts["unproven"] == UNPROVEN


def test_no_program_for_linux_is_sent_to_it(mixed):
    """But for the first, which finds out."""
    mixed.maintain(checks__enable=ALL)
    asked = mixed.guests[0].asked
    assert len([one for one in asked if "/proc" in one]) == 1
    assert not [one for one in asked if one.startswith(("exec ", "chronyc"))]


def test_a_user_who_may_not_set_its_clock_is_refused_before_the_pause(mixed):
    """By its agent, and nobody is paused."""
    mixed.guests[0].uid, mixed.guests[0].agent_sets_time = 1000, False
    error = mixed.maintain().error
    assert isinstance(error, PlanError)
    assert "web1" in str(error)
    assert "Change the system time" in str(error)
    assert not [call for call in mixed.host.calls if call[0] == "pause"]


def test_every_check_that_is_named_here_is_one():
    """Else a renamed one would never be asked."""
    assert set(ALL) <= set(get_args(CheckName))


def test_a_second_opinion_in_windows_is_as_coarse_as_a_tick(mixed):
    """qemu-ga tells the time of the last tick there: 12 ms apart is no disagreement."""
    original = mixed.host.guest_time_ns
    mixed.host.guest_time_ns = lambda uuid, deadline: original(uuid, deadline) - 12_000_000
    record = mixed.maintain().record
    agrees = {one.name: one.clock.guest_agent_agrees for one in record.guests}
    assert agrees == {"web1": True, "web2": False}
