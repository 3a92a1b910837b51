"""What fails before the first pause: every guest that does is named, and the record says why."""

from __future__ import annotations

import os
import resource

import pytest
from lxml import etree

from harness.core.errors import PlanError, SeveralFailed, ShellUnreachable, UnknownGuest
from harness.core.records import Outcome
from harness.host.lifecycle import GuestState
from harness.results.report.html import render


def test_every_guest_that_cannot_be_reached_is_named(house):
    """Not the first one only; the one that could be reached is not blamed, and nobody is paused."""
    at = house("web1", "web2", "web3")
    at.guests[0].unreachable = at.guests[2].unreachable = True
    finished = at.maintain()
    assert isinstance(finished.error, SeveralFailed)
    assert finished.record.exit_code == 3
    assert at.host.calls == []
    guests = {guest.name: guest for guest in finished.record.guests}
    assert set(guests) == {"web1", "web3"}
    for name, guest in guests.items():
        assert guest.outcome is Outcome.ERROR
        (problem,) = guest.problems
        assert problem.startswith(f"{name}: ")
        assert problem in finished.record.problems[0]
    page = render(finished.folder)
    assert all(guest.problems[0] in page for guest in guests.values())
    junit = etree.parse(finished.folder.path / "junit.xml")
    errors = {one.getparent().get("classname") for one in junit.iter("error")}
    assert errors >= {"web1", "web3"}


def test_one_guest_that_cannot_be_reached_is_its_own_error(house):
    """With its class, as ever; and in the record as a guest."""
    at = house()
    at.guests[1].unreachable = True
    finished = at.maintain()
    assert isinstance(finished.error, ShellUnreachable)
    assert [guest.name for guest in finished.record.guests] == ["web2"]


def test_every_guest_whose_baseline_fails_is_named(house):
    """They were logged in to, and then their connections broke."""
    at = house("web1", "web2", "web3")

    class Breaking(list):
        def append(self, step):
            if step.text == "logged in":
                at.guests[0].unreachable = at.guests[1].unreachable = True

    at.steps = Breaking()
    finished = at.maintain(update__scope="host")
    assert isinstance(finished.error, SeveralFailed)
    assert [guest.name for guest in finished.record.guests] == ["web1", "web2"]
    assert at.host.calls == []


def test_every_guest_that_does_not_run_is_refused_at_once(house):
    """By the plan, with the way on for each."""
    at = house("web1", "web2", "web3")
    at.host.states["web1"] = GuestState.SHUT_OFF
    at.host.states["web2"] = GuestState.SUSPENDED
    with pytest.raises(SeveralFailed) as refused:
        at.maintain()
    said = str(refused.value)
    assert said.startswith("2 guests: web1: is shut off")
    assert "start web1" in said
    assert "dompmwakeup web2" in said


def test_every_guest_that_is_not_there_is_refused_at_once(house):
    """By the plan: a mistake of the command line."""
    at = house()
    with pytest.raises(UnknownGuest) as refused:
        at.maintain("web1", "wbe2", "nobody")
    assert refused.value.exit_code == 2
    assert "wbe2, nobody" in str(refused.value)
    assert "running there: web1, web2" in str(refused.value)


def test_more_guests_than_descriptors_last_for_are_refused_before_anybody_is_touched(house):
    """The hint is followed: one at a time they can be done."""
    at = house("web1", "web2", update__scope="guest")
    at.host.labels = {name: ("0", None) for name in ("web1", "web2")}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, hard))
    try:
        with pytest.raises(PlanError, match="descriptors are left of ulimit -n") as refused:
            at.maintain()
        assert (at.host.calls, at.connector.logins) == ([], [])
        assert "--at-most 1" in refused.value.hint
        assert at.maintain(at_most=1).record.outcome is Outcome.PASS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
