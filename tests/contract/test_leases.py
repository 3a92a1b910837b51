"""Leases of availability sets: the same promises on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from harness.core.errors import ConfigError, InfrastructureError, NotNow, SetLeased, UsageError
from harness.core.storage.database import migrate
from harness.fleet import schema
from harness.fleet.database import FleetDatabase
from harness.fleet.leases import held, release, take
from harness.results.history.store import History
from harness.testing.runs import a_folder, a_run
from tests.contract.conftest import shape
from tests.postgresql import connected


def lease(database: FleetDatabase, *sets: str, run: str, domain="0", host="h1", seconds=90.0):
    take(database, sets, update_domain=domain, run_id=run, host=host, seconds=seconds)


@pytest.fixture
def database(url) -> FleetDatabase:
    return FleetDatabase(url)


def test_a_set_is_held_by_one_run(database, url):
    """Whoever asks: another host, another update domain, or the same one on the same host."""
    lease(database, "web", run="a")
    for other in ({"host": "h2", "domain": "1"}, {"host": "h2"}, {"domain": "1"}, {}):
        with pytest.raises(SetLeased) as refused:
            lease(FleetDatabase(url), "web", run="b", **other)
        assert isinstance(refused.value, NotNow)
        said = refused.value.message
        assert "availability set web is held by update domain 0 on h1, run a, for another" in said
    lease(database, "db", run="b")
    assert [(one.availability_set, one.run_id) for one in held(database)] == [
        ("db", "b"),
        ("web", "a"),
    ]


def test_a_run_holds_longer_and_lets_go(database):
    """It lets go of its own only."""
    lease(database, "web", run="a", seconds=30.0)
    (before,) = held(database)
    lease(database, "web", run="a", seconds=90.0, domain="1")
    (after,) = held(database)
    assert after.expires_s - before.expires_s >= 59.0
    assert (after.taken_s, after.update_domain) == (before.taken_s, "1")
    release(database, ["web"], "b")
    assert held(database) == [after]
    release(database, ["web"], "a")
    assert held(database) == []
    lease(database, "web", run="b")


def test_a_lease_of_a_host_that_died_ends_by_itself(database):
    """Nobody has to clear it away."""
    lease(database, "web", run="a", seconds=-0.001)
    assert held(database) == []
    lease(database, "web", run="b")
    with pytest.raises(SetLeased):
        lease(database, "web", run="a")


def test_all_sets_or_none(database):
    """A run that cannot have one of its sets keeps no one from the others."""
    lease(database, "m", run="a")
    with pytest.raises(SetLeased):
        lease(database, "z", "m", "a", run="b")
    assert [one.availability_set for one in held(database)] == ["m"]


def test_of_many_that_come_at_one_instant_one_has_it(url):
    """The tables are made at that instant too; sets are named in any order, and nobody waits."""
    together, sets = threading.Barrier(8), ["web", "db", "queue"]

    def come(number: int) -> bool:
        mine = FleetDatabase(url)
        together.wait(timeout=30)
        try:
            lease(mine, *(sets if number % 2 else reversed(sets)), run=f"run-{number}")
        except SetLeased:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(come, range(8)))
    assert won.count(True) == 1, won
    assert {one.run_id for one in held(FleetDatabase(url))} == {f"run-{won.index(True)}"}


def test_the_history_may_be_in_the_same_database(url, tmp_path):
    """Each knows its own version."""
    with History.open(url) as history:
        history.add(a_folder(tmp_path, a_run()))
        lease(FleetDatabase(url), "web", run="a")
        assert history.count() == 1
    with History.open(url) as again:
        assert again.count() == 1
    assert len(held(FleetDatabase(url))) == 1


def test_the_migrations_make_what_a_new_database_is_made_of(database, url):
    """Column by column; and HEAD is the newest migration."""
    assert held(database) == []
    engine = connected(url)
    with engine.begin() as connection:
        made = shape(connection)
        assert made.keys() == {*schema.metadata.tables, "fleet_version"}
        schema.metadata.drop_all(connection)
        connection.execute(sa.text("DROP TABLE fleet_version"))
        migrate(connection, schema.LAYOUT)
        assert shape(connection) == made
        version = connection.execute(sa.text("SELECT version_num FROM fleet_version")).scalar()
        assert version == schema.HEAD
    engine.dispose()


def test_a_database_of_a_later_harness_is_left_alone(database, url):
    held(database)
    engine = connected(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE fleet_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(InfrastructureError, match="9999"):
        lease(FleetDatabase(url), "web", run="a")


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("nonsense", UsageError, "URL"),
        ("postgresql://u:s3cret@db/x", ConfigError, "fleet.database.*password"),
        ("sqlite:////nonexistent/folder/x.db", InfrastructureError, "nonexistent"),
        ("postgresql://u@/x?host=/nonexistent", InfrastructureError, "nonexistent"),
    ],
)
def test_what_cannot_be_used_is_said(url, error, said):
    """Never with the password."""
    with pytest.raises(error, match=said) as refused:
        lease(FleetDatabase(url), "web", run="a")
    assert "s3cret" not in str(refused.value)


def test_a_file_is_private(tmp_path):
    lease(FleetDatabase(f"sqlite:///{tmp_path / 'x.db'}"), "web", run="a")
    assert [oct(one.stat().st_mode & 0o077) for one in tmp_path.iterdir()] == ["0o0"] * len(
        list(tmp_path.iterdir())
    )


def test_a_server_that_is_stopped_is_told_and_what_it_held_is_there_again(postgresql):
    """At once, as by a power cut: a lease that was granted outlasts it."""
    postgresql.empty()
    database = FleetDatabase(postgresql.url)
    lease(database, "power cut", run="a")
    postgresql.stop()
    try:
        for ask in (held, lambda one: lease(one, "other", run="b")):
            with pytest.raises(InfrastructureError, match="fleet's database postgresql://harness@"):
                ask(database)
    finally:
        postgresql.start()
    assert "power cut" in [one.availability_set for one in held(database)]
