"""Guests that are reached by their guest agent: whole maintenances in memory."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from harness.api import Backend, plan, read_clocks
from harness.core.errors import HostKeyRejected, PlanError, ShellUnreachable
from harness.core.records import Outcome
from harness.guest.agent_channel import EXEC, FILES, GET_TIME, SET_TIME
from tests.maintenance.conftest import broken, of, verdicts

ALL_OUT = frozenset({*EXEC, *FILES})


def test_a_guest_without_a_login_is_maintained_by_its_agent(house):
    """The same checks as over SSH; no login was tried, and the record says so."""
    at = house("web1", access="agent")
    finished = at.maintain()
    web1 = of(finished.record, "web1")
    assert (finished.record.exit_code, broken(web1)) == (0, {})
    assert at.connector.logins == []
    assert (web1.facts["access"], web1.identity.bound_by) == ("agent", "agent-channel")
    assert web1.clock.method == "relative-step"


def test_an_agent_that_runs_no_program_still_keeps_the_clock_right(house):
    """By RHEL's block list: what it cannot tell is skipped, with the commands that it lacks."""
    at = house("web1", access="agent")
    at.guests[0].agent_blocks = ALL_OUT
    finished = at.maintain()
    web1 = of(finished.record, "web1")
    assert finished.record.exit_code == 0
    assert web1.clock.method == "guest-agent"
    assert {name for name, said in verdicts(web1).items() if said == "skip"} == {
        "frozen",
        "same-boot",
        "kernel-log",
    }
    assert "guest-exec (blocked)" in broken(web1)["same-boot"]


def refuse(kind=ShellUnreachable):
    """What a login that does not work raises."""

    def login():
        raise kind("no login", guest="web1")

    return login


def test_auto_takes_ssh_where_a_login_works(house):
    """The agent is not asked for anything but what a login asks it."""
    at = house("web1", access="auto")
    web1 = of(at.maintain().record, "web1")
    assert (web1.facts["access"], web1.facts["address"]) == ("ssh", "web1.example")
    assert "guest-exec" not in at.guests[0].asked


@pytest.mark.parametrize("kind", [ShellUnreachable, HostKeyRejected])
def test_auto_takes_the_agent_where_no_login_works_and_says_why(house, kind):
    """Which way was taken is in the record, and so is what was wrong with the other."""
    at = house("web1", access="auto")
    at.connector.before["web1"] = refuse(kind)
    finished = at.maintain()
    web1 = of(finished.record, "web1")
    assert finished.record.exit_code == 0
    assert web1.facts["access"] == "agent"
    assert web1.facts["address_from"].startswith("no login by SSH: no login")


def test_auto_with_neither_way_says_both_reasons(house):
    """And nothing is paused."""
    at = house("web1", access="auto")
    at.connector.before["web1"] = refuse()
    at.guests[0].guest_agent = False
    finished = at.maintain()
    assert finished.record.exit_code == 3
    assert "no login; tried: web1.example (DHCP lease); nor by the guest agent: " in str(
        finished.error
    )
    assert ("pause", "web1") not in at.host.calls


def test_a_login_that_does_not_work_is_not_passed_by_unasked(house):
    """What refuses a run today, such as a host key that has changed, goes on refusing it."""
    at = house("web1")
    at.connector.before["web1"] = refuse(HostKeyRejected)
    assert at.maintain().record.exit_code == 3
    assert ("pause", "web1") not in at.host.calls


def test_guests_of_both_ways_are_maintained_in_one_run(house):
    """Each as its own section says, whatever holds for the others."""
    at = house("web1", "web2", guest=[{"name": "web2", "access": "agent"}])
    record = at.maintain().record
    assert record.exit_code == 0
    ways = {guest.name: guest.facts["access"] for guest in record.guests}
    assert ways == {"web1": "ssh", "web2": "agent"}
    assert [name for name, _ in at.connector.logins] == ["web1"]


@pytest.mark.parametrize("said", ["guest_agent", "agent_silent"])
def test_an_agent_that_does_not_answer_refuses_the_guest_before_the_pause(house, said):
    """Not connected, or hung: the run says so, and the plan says it beforehand."""
    at = house("web1", access="agent")
    setattr(at.guests[0], said, said == "agent_silent")
    finished = at.maintain()
    assert finished.record.exit_code == 3
    assert ("pause", "web1") not in at.host.calls
    assert any("its guest agent does not answer" in line for line in finished.record.warnings)


@pytest.mark.parametrize("said", ["guest_agent", "agent_silent"])
def test_an_agent_that_falls_silent_in_the_pause_leaves_the_clock_unjudged(house, said):
    """The guest runs: resuming it takes no agent. What could not be seen is no pass."""
    at = house("web1", access="agent")

    def fall_silent():
        setattr(at.guests[0], said, said == "agent_silent")

    at.host.before[("resume", "web1")] = fall_silent
    finished = at.maintain()
    web1 = of(finished.record, "web1")
    assert (finished.record.exit_code, web1.still_paused) == (3, False)
    assert at.running == ["web1"]
    assert verdicts(web1)["clock"] == "error"
    assert verdicts(web1)["pause-window"] == "pass"


def test_an_agent_that_restarts_in_the_pause_has_lost_its_programs(house):
    """What was asked of them is an ERROR, and the guest runs."""
    at = house("web1", access="agent")
    at.host.before[("resume", "web1")] = at.host.agents["web1"].restart
    finished = at.maintain()
    assert finished.record.exit_code == 3
    assert at.running == ["web1"]
    assert "has not been found" in broken(of(finished.record, "web1"))["clock"]


def test_an_agent_that_can_tell_no_clock_is_refused_at_plan_time(house):
    """With the commands that it lacks, and where they are allowed; nothing is paused."""
    at = house("web1", access="agent")
    at.guests[0].agent_blocks = ALL_OUT | {GET_TIME}
    with pytest.raises(
        PlanError, match=r"tells nothing of the clock: it lacks guest-get-time"
    ) as e:
        at.maintain()
    assert "BLOCK_RPCS" in (e.value.hint or "")


def test_the_plan_names_the_commands_that_a_guest_agent_lacks(house):
    """And of guests that are logged in to it asks nothing."""
    at = house("web1", "web2", guest=[{"name": "web2", "access": "agent"}])
    at.guests[1].agent_blocks = frozenset({"guest-file-open"})
    backend = Backend(lambda _: nullcontext(at.host), at.connector)
    warnings = plan(at.config(), ["web1", "web2"], state_dir=at.state_dir, backend=backend)
    (line,) = (one for one in warnings.plan.warnings if "guest agent" in one)
    assert line.startswith("web2: programs in the guest cannot be asked again")
    assert "guest-file-open (blocked)" in line
    assert at.guests[0].asked == []


def test_an_agent_that_may_not_set_the_clock_refuses_a_run_that_would(house):
    """One that leaves clocks alone may go on, and finds this one wrong."""
    at = house("web1", access="agent")
    at.guests[0].agent_blocks = ALL_OUT | {SET_TIME}
    at.guests[0].agent_sets_time = False
    assert at.maintain().record.exit_code == 2
    assert ("pause", "web1") not in at.host.calls
    finished = at.maintain(clock__correct=False)
    assert finished.record.exit_code == 1
    assert verdicts(of(finished.record, "web1"))["clock"] == "fail"


def test_a_method_that_is_left_out_is_not_used_because_there_is_no_other(house):
    """The guest agent's own command is a method like the others."""
    at = house("web1", access="agent")
    at.guests[0].agent_blocks = ALL_OUT
    finished = at.maintain(clock__methods=["relative-step"])
    assert finished.record.exit_code == 2
    assert "clock.methods leaves out" in str(finished.error)


def test_two_guests_of_whom_no_boot_id_is_known_are_two_guests(house):
    """Each has a channel of its own."""
    at = house("web1", "web2", access="agent")
    for guest in at.guests:
        guest.agent_blocks = ALL_OUT
    assert at.maintain().record.exit_code == 0


def test_clocks_are_read_by_the_agent_without_a_pause(house):
    """`harness clock` goes the same way."""
    at = house("web1", access="agent")
    at.guests[0].offset_s = -3.0
    (one,) = read_clocks(
        at.config(), ["web1"], backend=Backend(lambda _: nullcontext(at.host), at.connector)
    )
    assert one.outcome is Outcome.FAIL
    assert one.before is not None
    assert one.before.offset_s == pytest.approx(-3.0, abs=0.1)
    assert at.connector.logins == []
