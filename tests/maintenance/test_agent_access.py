"""Guests that are reached by their guest agent: whole maintenances in memory."""

from __future__ import annotations

from harness.guest.agent_channel import EXEC, FILES
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
