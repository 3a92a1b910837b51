"""Whole runs whose logins lead to the wrong guest, or may not do what they must: none is paused."""

from __future__ import annotations

import pytest

from harness.cli.doctor import examine
from harness.cli.finding import Level
from harness.core.errors import PlanError, WrongGuest
from harness.core.records import Outcome
from tests.maintenance.conftest import events, of, verdicts
from tests.maintenance.recovery.test_recover import finish, killed
from tests.maintenance.test_clock import backend, corrected


def plain_users(at):
    """Nobody is root, so only MACs and guest agents tell who is who."""
    for guest in at.guests:
        guest.uid = 1000
    at.settings["clock.correct"] = False


def nothing_was_paused(at, finished) -> bool:
    return "pausing" not in events(finished) and ("pause", "web1") not in at.host.calls


def test_two_guests_that_lead_to_one_machine_are_refused_by_name(house):
    """Exit 2, as for a configuration that is wrong; the record says why."""
    at = house()
    at.connector.guests["web2"] = at.guests[0]
    finished = at.maintain()
    assert isinstance(finished.error, WrongGuest)
    assert "is guest web1, not web2" in str(finished.error)
    assert (finished.record.exit_code, finished.record.outcome) == (2, Outcome.ERROR)
    assert "web2" in finished.record.problems[0]
    assert nothing_was_paused(at, finished)


@pytest.mark.parametrize("shared", ["boot_id", "address", "host_key"])
def test_two_guests_that_are_not_known_apart_are_refused(house, shared):
    """Both names, though nothing else tells that it is one machine."""
    at = house()
    plain_users(at)
    for guest in at.guests:
        guest.device_macs, guest.guest_agent = (), False
    setattr(at.guests[1], shared, getattr(at.guests[0], shared))
    finished = at.maintain()
    assert isinstance(finished.error, PlanError)
    assert "web1 and web2" in str(finished.error)
    assert finished.record.exit_code == 2
    assert nothing_was_paused(at, finished)


def test_a_guest_at_another_running_guests_address_is_refused(house):
    """Also where that one is no part of the run; and for users who are not root, by its MAC."""
    at = house()
    at.connector.guests["web1"] = at.guests[1]
    finished = at.maintain("web1")
    assert isinstance(finished.error, WrongGuest)
    assert "is guest web2, not web1" in str(finished.error)
    plain_users(at)
    finished = at.maintain("web1")
    assert isinstance(finished.error, WrongGuest)
    assert nothing_was_paused(at, finished)


def test_what_binds_a_guest_is_in_the_record(house):
    """And a promise of its own: what was looked at is what was paused."""
    record = house().maintain(checks__enable=["identity"]).record
    for guest in record.guests:
        assert guest.identity.bound_by == "machine-uuid"
        assert (guest.identity.boot_id, guest.identity.host_key) == (
            f"boot-{guest.name}-1",
            f"SHA256:{guest.name}",
        )
        assert verdicts(guest) == {"identity": "pass"}
    assert not [warning for warning in record.warnings if "web" in warning]


def test_a_guest_that_cannot_be_bound_is_a_warning_and_no_pass(house):
    """The run goes on; its record says what is missing and how to mend it."""
    at = house("web1")
    plain_users(at)
    at.guests[0].device_macs, at.guests[0].guest_agent = (), False
    record = at.maintain(checks__enable=["identity", "frozen"]).record
    assert record.exit_code == 0
    assert of(record, "web1").identity.bound_by is None
    assert verdicts(of(record, "web1")) == {"identity": "skip", "frozen": "pass"}
    (warning,) = (one for one in record.warnings if "web1" in one)
    assert "web1: it cannot be told whether" in warning
    assert "qemu-guest-agent" in warning


def test_a_host_key_that_the_configuration_does_not_check_is_a_warning(house):
    """`StrictHostKeyChecking no`: the run goes on, as ssh does, and its record says so."""
    at = house("web1")
    at.guests[0].host_key_doubt = "its host key is unknown: StrictHostKeyChecking is no"
    record = at.maintain(checks__enable=["identity", "frozen"]).record
    assert record.exit_code == 0
    (warning,) = (one for one in record.warnings if "web1" in one)
    assert warning == "web1: its host key is unknown: StrictHostKeyChecking is no"


def test_two_guests_at_one_machine_are_not_corrected_twice(house):
    """``harness clock``: neither report says that a clock is right."""
    at = house()
    plain_users(at)
    at.connector.guests["web2"] = at.guests[0]
    at.guests[0].device_macs, at.guests[0].uid = (), 0
    at.guests[0].machine_uuid, at.guests[0].guest_agent = None, False
    at.guests[1].guest_agent = False
    at.guests[0].offset_s = -5.0
    reports = corrected(at, clock__correct=True)
    assert [report.outcome for report in reports] == [Outcome.ERROR, Outcome.ERROR]
    for report in reports:
        assert "are one machine to their logins" in report.problem
    assert abs(at.guests[0].offset_s) < 0.5, "stepped once at most"


def test_a_stranger_that_answers_after_the_pause_is_no_reboot(house):
    """The old connection is dead, and the address is another guest's by now: not judged."""
    at = house("web1", "web2")
    guest = at.guests[0]

    def change_hands():
        guest.unreachable = True
        at.connector.guests["web1"] = at.guests[1]

    at.host.before["resume", "web1"] = change_hands
    record = at.maintain("web1", checks__enable=["same-boot"]).record
    assert verdicts(of(record, "web1")) == {"same-boot": "error"}


# -- the right to set the clock


def test_a_user_who_may_not_set_the_clock_is_refused_before_the_pause(house):
    """The reading would be honest, and the clock would stay wrong: only --no-correct goes on."""
    at = house("web1")
    at.guests[0].uid, at.guests[0].guest_agent = 1000, False
    finished = at.maintain()
    assert isinstance(finished.error, PlanError)
    assert "web1: its clock may not be set by this user: EPERM" in str(finished.error)
    for way_out in ("root", "sudo = true", "--no-correct"):
        assert way_out in finished.error.hint
    assert finished.record.exit_code == 2
    assert nothing_was_paused(at, finished)
    assert at.maintain(clock__correct=False, checks__enable=["frozen"]).record.exit_code == 0


def test_sudo_is_a_right(house):
    """The agent runs by it, so the agent is what is asked."""
    at = house("web1", ssh__sudo=True)
    at.guests[0].uid, at.guests[0].guest_agent = 1000, False
    record = at.maintain().record
    assert record.exit_code == 0, record.problems
    assert of(record, "web1").identity.bound_by == "machine-uuid"


def test_a_guest_agent_that_sets_clocks_is_a_right(house):
    """Where its method may be used, and it says that it may."""
    at = house("web1")
    guest = at.guests[0]
    guest.uid = 1000
    finished = at.maintain(checks__enable=["identity"])
    assert of(finished.record, "web1").clock.method == "guest-agent"
    assert isinstance(at.maintain(clock__methods=["relative-step"]).error, PlanError)
    guest.agent_sets_time = False
    assert isinstance(at.maintain().error, PlanError)


def test_recovery_says_of_two_guests_at_one_machine_that_it_cannot_tell(house):
    """Nothing binds them, and one clock was looked at twice."""
    at = house("web1", "web2")
    folder = killed(at)
    for guest in at.guests:
        guest.machine_uuid, guest.device_macs, guest.guest_agent = None, (), False
    at.connector.guests["web2"] = at.guests[0]
    for guest in finish(at, folder).guests:
        assert guest.clock_verdict is Outcome.ERROR
        assert "web1 and web2 are one machine" in guest.problem


def examined(at, tmp_path, **changes):
    """What doctor finds, by name."""
    config = at.config(guest=[{"name": guest.name} for guest in at.guests], **changes)
    return {finding.name: finding for finding in examine(config, tmp_path, backend(at))}


def test_doctor_says_who_may_not_set_a_clock(house, tmp_path):
    """A problem, with what can be done; none where clocks are left alone."""
    at = house("web1")
    at.guests[0].uid, at.guests[0].guest_agent = 1000, False
    found = examined(at, tmp_path)["guest web1"]
    assert found.level is Level.PROBLEM
    assert "may not be set by this user" in found.detail
    assert "sudo = true" in found.fix
    assert examined(at, tmp_path, clock__correct=False)["guest web1"].level is Level.OK


def test_doctor_says_who_is_not_known_apart_or_cannot_be_bound(house, tmp_path):
    """Two guests at one machine are two problems; one that nothing binds is a warning."""
    at = house()
    plain_users(at)
    for guest in at.guests:
        guest.device_macs, guest.guest_agent = (), False
    found = examined(at, tmp_path)
    for name in ("guest web1", "guest web2"):
        assert found[name].level is Level.WARNING
        assert "cannot be told whether what answers" in found[name].detail
        assert "qemu-guest-agent" in found[name].fix
    at.connector.guests["web2"] = at.guests[0]
    found = examined(at, tmp_path)
    for name in ("guest web1", "guest web2"):
        assert found[name].level is Level.PROBLEM
        assert "web1 and web2 are one machine" in found[name].detail


def test_recovery_corrects_no_stranger(house):
    """A dead run's guest at whose address another answers: its clock is not called right."""
    at = house("web1", "web2")
    folder = killed(at)
    at.connector.guests["web1"] = at.guests[1]
    guest = next(one for one in finish(at, folder).guests if one.member.name == "web1")
    assert guest.clock_verdict is Outcome.ERROR
    assert "is guest web2, not web1" in guest.problem
