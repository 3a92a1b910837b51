"""The events' store: every change once, whatever crashes, however many look."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
import sqlalchemy as sa

from harness.core.errors import EventError, InfrastructureError
from harness.core.storage.database import migrate
from harness.events.document import Event, EventType, State
from harness.events.order import Order
from harness.events.scheduler import schedule, scheduled
from harness.events.schema import Member, Sighting, metadata
from harness.events.store import Store
from harness.events.store_file import LAYOUT
from harness.testing.clock import FakeClock

SCOPE = "set:web"


def an_event(*resources, event_id=""):
    return Event(event_id, EventType.FREEZE, resources or ("web1",), State.PLANNED, 0)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(tmp_path, clock):
    with Store(tmp_path, clock) as opened:
        yield opened


def plan(store, domain="0", scope=SCOPE, *resources):
    return store.plan(scope, domain, an_event(*resources), owner="run x")


def incarnation(store, scope=SCOPE):
    return store.snapshot(scope).incarnation


def test_every_change_that_guests_can_see_counts_one(store):
    """A plan is none; announced, started and removed are; other scopes do not notice."""
    assert incarnation(store) == 1
    event = plan(store)
    assert incarnation(store) == 1
    seen = []
    for change in (lambda: store.announce([event], 10**9), lambda: store.start([event]),
                   lambda: store.end([event])):  # fmt: skip
        change()
        seen.append((incarnation(store), len(store.snapshot(SCOPE).events)))
    assert seen == [(2, 1), (3, 1), (4, 0)]
    assert incarnation(store, "set:db") == 1


def test_one_id_for_life_upper_case(store):
    """Clients match what they approved with what starts."""
    event = plan(store)
    assert event == event.upper()
    assert len(event) == 36
    store.announce([event], 10**9)
    store.start([event])
    assert [e.event_id for e in store.snapshot(SCOPE).events] == [event]
    assert store.find(event.lower()).event.event_id == event


def test_cancelled_before_it_starts_and_not_after(store):
    """What is started ends; what never showed changes nothing for anybody."""
    quiet, shown, started = plan(store), plan(store), plan(store)
    store.announce([shown, started], 10**9)
    store.start([started])
    before = incarnation(store)
    assert store.cancel([quiet, shown, started]) == [quiet, shown]
    assert incarnation(store) == before + 1
    assert store.find(started).state is State.STARTED
    store.end([quiet, shown, started])
    assert [store.find(e).state for e in (quiet, shown, started)] == [
        State.CANCELLED,
        State.CANCELLED,
        State.ENDED,
    ]
    store.end([started])
    assert incarnation(store) == before + 2


def test_a_cancelled_event_cannot_start_and_takes_the_others_of_its_pause_with_it(store):
    """All sets of a host or none."""
    web, db = plan(store), plan(store, "0", "set:db")
    store.announce([web, db], 10**9)
    store.cancel([db])
    with pytest.raises(EventError, match="cancelled"):
        store.start([web, db])
    assert store.find(web).state is State.SCHEDULED


def test_two_update_domains_of_a_set_are_never_told_at_once(store):
    """Nor started; another set may."""
    first, second, other = plan(store, "0"), plan(store, "1"), plan(store, "1", "set:db")
    store.announce([first], 10**9)
    for refused in (store.announce, lambda ids, _: store.start(ids)):
        with pytest.raises(EventError, match="one at a time"):
            refused([second], 10**9)
    store.announce([other], 10**9)
    store.start([first])
    store.end([first])
    store.announce([second], 10**9)


def test_an_approval_counts_however_its_id_is_written(store):
    """Ids are upper case, and UUIDs: some clients write those in lower case."""
    event = plan(store)
    store.announce([event], 10**9)
    store.approve([event.lower()], "web1", scope=SCOPE)
    assert store.find(event).approved_by == "web1"


def test_the_first_approval_is_kept_and_repeating_is_no_error(store, clock):
    """Also when it has started, or is over."""
    event = plan(store)
    store.announce([event], 10**9)
    at_ns = clock.realtime_ns()
    store.approve([event], "web1", scope=SCOPE)
    clock.advance(1)
    store.approve([event.lower()], "web2", scope=SCOPE)
    store.approve([event], "web2", scope=SCOPE)
    assert store.find(event).approved_by == "web1"
    store.start([event])
    store.approve([event], "web2", scope=SCOPE)
    store.end([event])
    store.approve([event], "web2", scope=SCOPE)
    found = store.find(event)
    assert (found.approved_by, found.approved_ns) == ("web1", at_ns)


def test_an_event_of_another_scope_is_as_unknown_as_none(store):
    """And the approval of the others in the same request does not count either."""
    mine, hers = plan(store), plan(store, "0", "set:db")
    store.announce([mine, hers], 10**9)
    messages = set()
    for unknown in (hers, "NO-SUCH-ID"):
        with pytest.raises(EventError) as caught:
            store.approve([mine, unknown], "web1", scope=SCOPE)
        messages.add(caught.value.message.replace(unknown, "ID"))
    assert len(messages) == 1
    assert store.find(mine).approved_ns is None


def test_what_is_only_planned_cannot_be_approved(store):
    """No guest can know its id."""
    with pytest.raises(EventError):
        store.approve([plan(store)], "web1", scope=SCOPE)


def test_a_guest_may_move_to_another_set(store):
    """The last word counts."""
    store.enrol([Member("u", "web1", "guest:u"), Member("v", "web2", SCOPE, "1")])
    store.enrol([Member("u", "web1", SCOPE, "0")])
    assert store.members() == [Member("u", "web1", SCOPE, "0"), Member("v", "web2", SCOPE, "1")]


def test_the_first_sight_of_an_incarnation_is_kept(store):
    """Later polls of the same add nothing; those from before are another run's."""
    first = Sighting("u", "web1", SCOPE, 2, 100)
    store.note_seen([first, Sighting("u", "web1", SCOPE, 2, 200)])
    store.note_seen([Sighting("u", "web1", SCOPE, 2, 300), Sighting("u", "web1", "set:db", 2, 1)])
    assert store.seen(SCOPE, 0) == [first]
    assert store.seen(SCOPE, 101) == []


def test_another_connection_sees_a_change_and_knows_that_there_was_one(store, tmp_path):
    """That is how server and run notice each other."""
    with Store(tmp_path) as other:
        before = other.version()
        event = plan(store)
        store.announce([event], 10**9)
        assert other.version() != before
        assert other.snapshot(SCOPE) == store.snapshot(SCOPE)


def test_a_process_that_is_killed_leaves_all_of_a_change_or_nothing(store, tmp_path):
    """It announces and ends events as fast as it can until it is killed."""
    code = f"""
from harness.events.store import Store
from harness.events.document import *
from pathlib import Path
store = Store(Path({str(tmp_path)!r}))
print("ready", flush=True)
while True:
    event = Event("", EventType.FREEZE, ("web1",), State.PLANNED, 0)
    ids = [store.plan({SCOPE!r}, "0", event, owner="o")]
    store.announce(ids, 10**9); store.start(ids); store.end(ids)
"""
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            before = incarnation(store)
            while incarnation(store) < before + 10:
                pass
            process.kill()
        changes = sum(
            {State.SCHEDULED: 1, State.STARTED: 2, State.ENDED: 3, State.CANCELLED: 2}.get(
                e.state, 0
            )
            for e in store.events()
        )
        assert incarnation(store) == 1 + changes
        for event in store.events(State.SCHEDULED, State.STARTED):
            store.cancel([event.event.event_id])
            store.end([event.event.event_id])


def test_many_may_open_it_at_once_and_none_loses_a_change(tmp_path):
    """The first to come makes the tables."""
    failures = []

    def work(number):
        try:
            with Store(tmp_path) as mine:
                event = plan(mine, "0", f"guest:{number}")
                mine.announce([event], 10**9)
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Store(tmp_path) as store:
        assert failures == []
        assert [incarnation(store, f"guest:{number}") for number in range(8)] == [2] * 8


#: The store as it was made before there were migrations, with a guest, an event and a poll in it.
VERSION_1 = """
CREATE TABLE member (
    uuid TEXT PRIMARY KEY, name TEXT NOT NULL, scope TEXT NOT NULL, update_domain TEXT NOT NULL
) STRICT;
CREATE TABLE scope (scope TEXT PRIMARY KEY, incarnation INTEGER NOT NULL) STRICT;
CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    update_domain TEXT NOT NULL,
    event_type TEXT NOT NULL,
    resources TEXT NOT NULL,
    state TEXT NOT NULL,
    not_before_ns INTEGER NOT NULL,
    description TEXT NOT NULL,
    source TEXT NOT NULL,
    duration_s REAL NOT NULL,
    owner TEXT NOT NULL,
    why TEXT NOT NULL DEFAULT '',
    announced_ns INTEGER,
    approved_ns INTEGER,
    approved_by TEXT,
    started_ns INTEGER,
    removed_ns INTEGER
) STRICT;
CREATE INDEX event_of_scope ON event (scope, state);
CREATE TABLE seen (
    uuid TEXT NOT NULL, name TEXT NOT NULL, scope TEXT NOT NULL, incarnation INTEGER NOT NULL,
    at_ns INTEGER NOT NULL, PRIMARY KEY (uuid, scope, incarnation)
) STRICT;
CREATE TABLE fault (scope TEXT PRIMARY KEY, kind TEXT NOT NULL, until_ns INTEGER NOT NULL) STRICT;
CREATE TABLE schedule (
    number INTEGER PRIMARY KEY,
    start_ns INTEGER NOT NULL,
    notice_s REAL NOT NULL,
    command TEXT NOT NULL,
    state TEXT NOT NULL,
    made_by TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT ''
) STRICT;
INSERT INTO member VALUES ('u1', 'web1', 'set:web', '0');
INSERT INTO scope VALUES ('set:web', 7);
INSERT INTO event VALUES (3, 'E1', 'set:web', '0', 'Freeze', '["web1"]', 'scheduled', 5000000000,
    'Soon.', 'Platform', 9.5, 'run /x', '', 11, NULL, NULL, NULL, NULL);
INSERT INTO seen VALUES ('u1', 'web1', 'set:web', 7, 12);
INSERT INTO schedule VALUES (1, 5, 2.5, '["web1"]', 'waiting', 'alice', '');
PRAGMA user_version = 1;
"""


def shape(file):
    """Every table of ours: its strictness, and its columns in their order with type and key."""
    with closing(sqlite3.connect(file)) as database:
        tables = database.execute("PRAGMA table_list").fetchall()
        return {
            name: (strict, database.execute(f"PRAGMA table_info({name})").fetchall())
            for _, name, _, _, _, strict in tables
            if not name.startswith(("sqlite_", "alembic_"))
        }


def test_a_store_of_an_earlier_harness_is_taken_over(tmp_path):
    """Its events, incarnations and schedule are there, and it goes on from them."""
    with closing(sqlite3.connect(tmp_path / "events.db")) as database:
        database.executescript(VERSION_1)
    for _ in range(2):  # taken over, then opened again
        with Store(tmp_path) as store:
            assert [guest.name for guest in store.members()] == ["web1"]
            assert incarnation(store, "set:web") == 7
            (event,) = store.events(State.SCHEDULED)
            assert (event.event.resources, event.announced_ns) == (("web1",), 11)
            assert [one.order.guests for one in scheduled(store)] == [("web1",)]
            assert [poll.at_ns for poll in store.seen("set:web", 0)] == [12]
    with Store(tmp_path) as store:
        store.start(["E1"])
        assert incarnation(store, "set:web") == 8


def test_a_new_store_is_made_as_an_earlier_one_is_brought_up_to_date(tmp_path):
    """Table by table; the code's own tables, too; and one that does not migrate refuses it."""
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    with closing(sqlite3.connect(earlier / "events.db")) as database:
        database.executescript(VERSION_1)
    for folder in (earlier, tmp_path):
        Store(folder).close()
    made = shape(tmp_path / "events.db")
    old = shape(earlier / "events.db")
    assert made.keys() == old.keys()
    for name, (strict, columns) in old.items():
        assert made[name][0] == strict
        # Names, types and keys; a key may say NOT NULL besides.
        assert [(c[1], c[2], bool(c[5])) for c in made[name][1]] == [
            (c[1], c[2], bool(c[5])) for c in columns
        ]
        table = metadata.tables[name]
        assert [(c.name, c.primary_key) for c in table.columns] == [
            (c[1], bool(c[5])) for c in columns
        ]
        assert {c.name for c in table.columns if not c.nullable and not c.primary_key} == {
            c[1] for c in made[name][1] if c[3] and not c[5]
        }
    for folder in (earlier, tmp_path):
        with closing(sqlite3.connect(folder / "events.db")) as database:
            assert database.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_store_between_the_migrations_keeps_what_is_scheduled(tmp_path):
    """Made by the first of them: rows of either form are read, and new ones join them."""
    order = '{"guests": ["web2"], "settings": {"budget_s": 9.0}}'
    with closing(sqlite3.connect(tmp_path / "events.db")) as database:
        database.executescript(VERSION_1)
        database.execute(
            "INSERT INTO schedule VALUES (2, 6, 2.5, ?, 'done', 'bob', 'exit code 0')", [order]
        )
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('0001')")
        database.commit()
    with Store(tmp_path) as store:
        number = schedule(store, 7, 1.0, Order(("web3",)), "carol")
        one, two, three = scheduled(store)
    assert (one.order.guests, one.state, one.made_by) == (("web1",), "waiting", "alice")
    assert (two.order, two.detail) == (Order(("web2",), {"budget_s": 9.0}), "exit code 0")
    assert (three.number, three.order.guests) == (number, ("web3",))


def test_a_new_store_is_what_the_migrations_make(tmp_path):
    """Column by column, without taking the time to run them; at the newest of them."""
    Store(tmp_path).close()
    engine = sa.create_engine("sqlite://")
    with engine.begin() as migrated:
        migrate(migrated, LAYOUT)
        expected = [migrated.exec_driver_sql(query).fetchall() for query in _EVERYTHING]
    engine.dispose()
    with closing(sqlite3.connect(tmp_path / "events.db")) as database:
        assert [database.execute(query).fetchall() for query in _EVERYTHING] == expected


_EVERYTHING = (
    "SELECT name, type, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name",
    "SELECT m.name, x.* FROM sqlite_master m, pragma_table_xinfo(m.name) x "
    "WHERE m.type = 'table' ORDER BY 1, 2",
    "SELECT m.name, i.*, x.* FROM sqlite_master m, pragma_index_list(m.name) i, "
    "pragma_index_info(i.name) x WHERE m.type = 'table' ORDER BY m.name, i.name, x.seqno",
    "SELECT version_num FROM alembic_version",
    "PRAGMA user_version",
)


def test_a_store_that_is_opened_ends_no_lock_of_another_in_this_process(tmp_path):
    """SQLite's locks are the process's: a reader goes on seeing what other processes write."""
    code = "import sys; from pathlib import Path; from harness.events.store import Store\n"
    code += "from harness.events.schema import Member\n"
    code += "with Store(Path(sys.argv[1])) as s: s.enrol([Member(sys.argv[2], 'n', 's')])"
    with Store(tmp_path) as reader:
        assert reader.members() == []
        Store(tmp_path).close()
        for uuid in ("a", "b"):
            before = reader.version()
            subprocess.run([sys.executable, "-c", code, tmp_path, uuid], check=True, timeout=60)
            assert reader.version() != before
            assert uuid in [guest.uuid for guest in reader.members()]


def test_it_is_nobody_elses_business(store):
    """Mode 0600."""
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_database_is_our_error(tmp_path):
    """And so is one of another version."""
    (tmp_path / "events.db").write_text("hello " * 1000)
    with pytest.raises(InfrastructureError, match="cannot use"):
        Store(tmp_path)
    (tmp_path / "events.db").unlink()
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "events.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(InfrastructureError, match="version 99"):
        Store(tmp_path)
