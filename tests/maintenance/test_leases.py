"""Whole maintenances with leases of availability sets, on a host in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import api
from harness.core.errors import (
    GuestStranded,
    HypervisorError,
    InfrastructureError,
    PlanError,
    SetLeased,
)
from harness.core.records import Outcome
from harness.fleet.database import FleetDatabase
from harness.fleet.leased_notice import LeasedNotice
from harness.fleet.leases import Lease, held, release, take
from harness.maintenance.notice import Unannounced
from harness.maintenance.run import Part
from harness.testing.updates import Meddling
from tests.maintenance.conftest import events
from tests.maintenance.test_api import backend

SETS = [{"name": "web1", "availability_set": "web"}, {"name": "web2", "availability_set": "web"}]


@pytest.fixture
def fleet(house, tmp_path):
    """A host with two guests of one set, in two update domains, and the database of its fleet."""
    (tmp_path / "shared").mkdir()
    url = f"sqlite:///{tmp_path / 'shared' / 'fleet.db'}"
    return house(fleet__database=url, guest=SETS), FleetDatabase(url)


def maintain(ours, **more):
    part = Part("r", lambda *_: None)
    return api.maintain(
        ours.config(**more), (), state_dir=ours.state_dir, part=part, backend=backend(ours)
    )


def lines(finished):
    text = Path(finished.folder.path / "journal.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_each_update_domain_is_leased_while_its_guests_are_paused(fleet):
    """Taken before the pause, released after; the journal tells both."""
    ours, database = fleet
    seen: list[Lease] = []
    ours.host.before["pause", "web1"] = lambda: seen.extend(held(database))
    finished = maintain(ours)
    assert finished.error is None
    (lease,) = seen
    assert (lease.availability_set, lease.run_id) == ("web", finished.record.run_id)
    config = ours.config()
    assert lease.expires_s - lease.taken_s >= config.budget_s + config.resume_patience_s
    assert held(database) == []
    told = events(finished)
    assert told.index("leased") < told.index("pausing")
    assert told.count("leased") == told.count("lease released") == 2


def test_a_set_that_another_run_holds_pauses_nobody(fleet):
    """A person at a shell, a second controller, a wrong order: whoever asks."""
    ours, database = fleet
    take(database, ["web"], update_domain="7", run_id="x", host="h2", seconds=60)
    finished = maintain(ours)
    assert isinstance(finished.error, SetLeased)
    assert "update domain 7 on h2, run x" in finished.error.message
    assert "pausing" not in events(finished)
    assert [one.run_id for one in held(database)] == ["x"]
    release(database, ["web"], "x")
    assert maintain(ours).error is None


def test_a_database_that_is_lost_in_the_window_keeps_no_guest_paused(fleet, monkeypatch):
    """The guests resume and their clocks are right; the next update domain is not begun."""
    ours, database = fleet
    shared = ours.state_dir.parent / "shared"
    lose = Meddling(lambda: shared.rename(shared.with_name("lost")))
    monkeypatch.setattr("harness.updates.configured.make_update", lambda *_: lose)
    finished = maintain(ours)
    assert isinstance(finished.error, InfrastructureError)
    assert "fleet's database" in str(finished.error) or "fleet.db" in str(finished.error)
    assert ours.running == ["web1", "web2"]
    (first,) = finished.record.update_domains
    assert first.outcome is Outcome.PASS
    assert lose.calls.count("apply") == 1
    (left,) = (one for one in lines(finished) if one["event"] == "lease released")
    assert left["left_because"]


def test_a_set_whose_guest_is_still_paused_is_not_let_go(fleet):
    """Another run would make it two."""
    ours, database = fleet

    def stuck():
        raise HypervisorError("cannot be resumed", operation="resuming", guest="web1")

    ours.host.before["resume", "web1"] = stuck
    finished = maintain(ours, resume_patience_s=0.3)
    assert isinstance(finished.error, GuestStranded)
    assert [one.run_id for one in held(database)] == [finished.record.run_id]


class Kept(Unannounced):
    """A notice whose events cannot be removed: other hosts show them still."""

    def over(self, domain) -> None:
        raise InfrastructureError("the store of events is gone")


def test_a_set_whose_events_are_there_still_is_not_let_go(fleet):
    """Guests on other hosts see it as paused; the lease ends by itself, and the journal says so."""
    ours, database = fleet
    finished = ours.maintain(notice=LeasedNotice(Kept(), database, hold_s=60.0, host="h1"))
    assert "the store of events is gone" in str(finished.error)
    assert ours.running == ["web1", "web2"]
    assert [one.run_id for one in held(database)] == [finished.record.run_id]
    (left,) = (one for one in lines(finished) if one["event"] == "lease released")
    assert left["left_because"].startswith("its events are there still: ")


def test_of_a_lease_that_was_never_had_nothing_is_left_to_expire(fleet):
    ours, database = fleet
    take(database, ["web"], update_domain="7", run_id="x", host="h2", seconds=60)
    finished = ours.maintain(notice=LeasedNotice(Kept(), database, hold_s=60.0, host="h1"))
    assert [one.run_id for one in held(database)] == ["x"]
    assert "pausing" not in events(finished)
    assert "lease released" not in events(finished)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "share no database"),
        (
            {"fleet__database": "sqlite:////x.db", "events__notice_s": 5.0},
            "share no store of events",
        ),
    ],
)
def test_a_set_that_spans_hosts_needs_what_they_share(house, settings, said):
    """Refused when it is planned."""
    spanning = [{"name": "web", "spans_hosts": True}]
    ours = house(guest=SETS, availability_set=spanning, **settings)
    with pytest.raises(PlanError, match=f"availability set web spans hosts.*{said}"):
        api.plan(ours.config(), (), state_dir=ours.state_dir, backend=backend(ours))
