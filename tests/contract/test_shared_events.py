"""Scheduled Events of sets that span hosts: the same on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.core.errors import ConfigError, EventError, InfrastructureError
from harness.core.settings import AvailabilitySetSection
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.events.cache import Desk
from harness.events.document import Event, EventType, State
from harness.events.membership import Scopes
from harness.events.scheduler import clear_dead
from harness.events.schema import Member, Sighting
from harness.events.shared import SharedStore
from harness.events.store import Store
from harness.fleet.database import FleetDatabase
from harness.fleet.leases import held, take
from harness.results.history.store import History
from tests.contract.conftest import PostgreSQL

NEWEST = "2020-07-01"
NOT_BEFORE_NS = 1_800_000_000 * 10**9


class Host:
    """What one host has of a shared store: one guest of set ``web``, by its own name."""

    def __init__(self, name, url, folder):
        self.folder = folder / name
        self.folder.mkdir()
        self.shared = SharedStore(url, name)
        spanning = AvailabilitySetSection(name="web", spans_hosts=True)
        self.scopes = Scopes.of([spanning], self.shared)
        self.store = Store(self.folder, shared=self.shared)
        self.guest = Member(f"uuid-{name}", f"g-{name}", self.scopes.name("web", ""), "0")
        self.store.enrol([self.guest])

    def plan(self, scope=None, owner="run /none"):
        event = Event("", EventType.FREEZE, (self.guest.name,), State.PLANNED, 0)
        return [self.store.plan(scope or self.guest.scope, "0", event, owner=owner)]

    def desk(self):
        return Desk(self.folder, shared=self.shared)


@pytest.fixture
def hosts(url, tmp_path):
    made = [Host(name, url, tmp_path) for name in ("h1", "h2")]
    yield made
    for host in made:
        host.store.close()


def seen(desk, host):
    """The document of a host's guest, once the host has heard of the last change."""
    return json.loads(desk.document(host.guest.scope, NEWEST).body)


def until(desk, host, incarnation):
    def look():
        found = seen(desk, host)
        if found["DocumentIncarnation"] != incarnation:
            raise NotYet(str(found))
        return found

    return wait_for(look, what=f"incarnation {incarnation}", deadline=Deadline.after(30))


def test_guests_of_other_hosts_see_the_sets_events_from_beginning_to_end(hosts):
    """One incarnation for the set, the same bytes on each host; who looked is known to the run."""
    one, two = hosts
    desks = [host.desk() for host in hosts]
    try:
        ids = one.plan()
        statuses = []
        for number, change in enumerate(
            (lambda: one.store.announce(ids, NOT_BEFORE_NS), lambda: one.store.start(ids)), 2
        ):
            change()
            shown = [until(desk, host, number) for desk, host in zip(desks, hosts, strict=True)]
            assert shown[0] == shown[1]
            (event,) = shown[1]["Events"]
            assert (event["EventId"], event["Resources"]) == (ids[0], ["g-h1"])
            assert event["EventType"] == "Freeze"
            statuses.append(event["EventStatus"])
        one.store.end(ids)
        assert [until(desk, two, 4)["Events"] for desk in desks] == [[], []]
        assert statuses == ["Scheduled", "Started"]
        two.store.note_seen([Sighting(two.guest.uuid, two.guest.name, two.guest.scope, 3, 5)])
        assert [one.name for one in one.store.seen(one.guest.scope, 0)] == ["g-h2"]
    finally:
        for desk in desks:
            desk.close()


def test_a_guest_of_another_host_may_approve_and_only_through_its_own(hosts):
    """A bystander of the set approves; a guest that is not in it, or not of that host, cannot."""
    one, two = hosts
    ids = one.plan()
    one.store.announce(ids, NOT_BEFORE_NS)
    desk = two.desk()
    try:
        stranger = desk.member("uuid-x", "x")
        with pytest.raises(EventError):
            asyncio.run(desk.approve(ids, stranger))
        assert desk.member(one.guest.uuid, one.guest.name).scope != one.guest.scope
        asyncio.run(desk.approve(ids, desk.member(two.guest.uuid, two.guest.name)))
    finally:
        desk.close()
    found = one.store.find(ids[0])
    assert found.approved_ns is not None
    assert found.approved_by == "g-h2"


def test_a_set_that_spans_no_hosts_is_another_on_each(hosts):
    """By whatever name; its guests see nothing of the other host's."""
    one, two = hosts
    local = [host.scopes.name("db", "") for host in hosts]
    assert local[0] != local[1]
    two.store.enrol([Member("uuid-db", "db", local[1])])
    ids = one.plan(local[0])
    one.store.announce(ids, NOT_BEFORE_NS)
    assert two.store.look().snapshots[local[1]].events == ()
    with pytest.raises(EventError):
        two.store.approve(ids, "db", scope=local[1])


def test_two_hosts_take_turns(hosts):
    """Update domains of the same name on two hosts are two; the second begins when one is over."""
    one, two = hosts
    first, second = one.plan(), two.plan()
    one.store.announce(first, NOT_BEFORE_NS)
    with pytest.raises(EventError, match="update domain 0 on h1 of set:web has an event"):
        two.store.announce(second, NOT_BEFORE_NS)
    one.store.start(first)
    with pytest.raises(EventError, match="update domain 0 on h1"):
        two.store.start(second)
    one.store.end(first)
    two.store.announce(second, NOT_BEFORE_NS)


def test_of_many_hosts_at_one_instant_one_announces(url, tmp_path):
    """The tables are made at that instant too."""
    together = threading.Barrier(6)

    def come(number):
        together.wait(timeout=30)
        host = Host(f"h{number}", url, tmp_path)
        try:
            host.store.announce(host.plan(), NOT_BEFORE_NS)
        except EventError:
            return False
        finally:
            host.store.close()
        return True

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(come, range(6))).count(True) == 1


def test_what_a_dead_host_left_ends_with_its_lease(hosts):
    """Who has the set's lease may announce: the other's lease has ended by itself."""
    one, two = hosts
    dead, new = one.plan(), two.plan()
    one.store.announce(dead, NOT_BEFORE_NS)
    one.store.start(dead)
    two.store.announce(new, NOT_BEFORE_NS, leased=True)
    assert one.store.find(dead[0]).state is State.ENDED
    (shown,) = two.store.look().snapshots["set:web"].events
    assert shown.event_id == new[0]


def test_a_host_clears_away_what_its_own_dead_left_and_nothing_else(hosts):
    one, two = hosts
    mine, other = one.plan(owner="process 1 1 x"), two.plan(owner="process 1 1 x")
    clear_dead(two.store, two.folder)
    assert one.store.find(mine[0]).state is State.PLANNED
    assert one.store.find(other[0]).state is State.CANCELLED


def test_leases_events_and_the_history_may_be_in_one_database(url, hosts):
    """Each knows its own version."""
    take(FleetDatabase(url), ["web"], update_domain="0", run_id="a", host="h1", seconds=60.0)
    with History.open(url) as history:
        assert history.count() == 0
    again = Store(hosts[0].folder, shared=hosts[0].shared)
    assert [one.name for one in again.members()] == ["g-h1"]
    again.close()
    assert len(held(FleetDatabase(url))) == 1


def test_a_url_with_a_password_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"events\.store.*password") as refused:
        Store(tmp_path, shared=SharedStore("postgresql://u:s3cret@db/x", "h"))
    assert "s3cret" not in str(refused.value)


def test_a_store_that_is_lost_is_no_answer_until_it_is_back(postgresql: PostgreSQL, tmp_path):
    """What guests saw last may be wrong by now: they are told that it is not known."""
    postgresql.empty()
    host = Host("h1", postgresql.url, tmp_path)
    ids = host.plan()
    host.store.announce(ids, NOT_BEFORE_NS)
    desk = host.desk()
    try:
        assert until(desk, host, 2)["Events"]
        postgresql.stop()
        try:

            def lost():
                try:
                    seen(desk, host)
                except InfrastructureError as error:
                    return str(error)
                raise NotYet("an answer")

            said = wait_for(lost, what="no answer", deadline=Deadline.after(60))
            assert "the store of events postgresql://harness@" in said
            with pytest.raises(InfrastructureError):
                asyncio.run(desk.approve(ids, host.guest))
            with pytest.raises(InfrastructureError):
                host.store.start(ids)
        finally:
            postgresql.start()

        def back():
            try:
                return seen(desk, host)
            except InfrastructureError as error:
                raise NotYet(str(error)) from error

        again = wait_for(back, what="an answer", deadline=Deadline.after(60))
        assert (again["DocumentIncarnation"], len(again["Events"])) == (2, 1)
        asyncio.run(desk.approve(ids, host.guest))
        host.store.start(ids)
    finally:
        desk.close()
        host.store.close()
