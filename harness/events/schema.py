"""The tables of the store, and rows as records.

A change of a table is a new file in ``migrations/`` and a new ``HEAD``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    RowMapping,
    Table,
    Text,
    event,
)

from harness.events.document import Event, EventType, Source, State

#: The newest migration.
HEAD = "0003"

#: Nanoseconds, and numbers that SQLite gives: there they are INTEGER, which has 64 bits.
_WHOLE = BigInteger().with_variant(Integer(), "sqlite")
_SECONDS: Double[float] = Double().with_variant(REAL(), "sqlite")

metadata = MetaData()

members = Table(
    "member",
    metadata,
    Column("uuid", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("update_domain", Text, nullable=False),
    Column("host", Text, nullable=False, server_default=""),  # "": the store is this host's
    sqlite_strict=True,
)

scopes = Table(
    "scope",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("incarnation", Integer, nullable=False),
    sqlite_strict=True,
)

events = Table(
    "event",
    metadata,
    Column("number", _WHOLE, primary_key=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("scope", Text, nullable=False),
    Column("update_domain", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("resources", Text, nullable=False),  # JSON
    Column("state", Text, nullable=False),
    Column("not_before_ns", _WHOLE, nullable=False),
    Column("description", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("duration_s", _SECONDS, nullable=False),
    Column("owner", Text, nullable=False),
    Column("why", Text, nullable=False, server_default=""),
    Column("announced_ns", _WHOLE),
    Column("approved_ns", _WHOLE),
    Column("approved_by", Text),
    Column("started_ns", _WHOLE),
    Column("removed_ns", _WHOLE),
    Column("host", Text, nullable=False, server_default=""),
    sqlite_strict=True,
)

Index("event_of_scope", events.c.scope, events.c.state)

sightings = Table(
    "seen",
    metadata,
    Column("uuid", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", Text, primary_key=True),
    Column("incarnation", Integer, primary_key=True),
    Column("at_ns", _WHOLE, nullable=False),
    sqlite_strict=True,
)

faults = Table(
    "fault",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("until_ns", _WHOLE, nullable=False),
    sqlite_strict=True,
)

schedules = Table(
    "schedule",
    metadata,
    Column("number", _WHOLE, primary_key=True),
    Column("start_ns", _WHOLE, nullable=False),
    Column("notice_s", _SECONDS, nullable=False),
    Column("order_json", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
    sqlite_strict=True,
)


def _refuse_old(_: MetaData, connection: Connection, **__: object) -> None:
    """By this a harness from before there were migrations refuses the tables."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA user_version = 2")


event.listen(metadata, "after_create", _refuse_old)


@dataclass(frozen=True)
class Member:
    """A guest and the scope whose events it sees."""

    uuid: str
    name: str
    scope: str
    update_domain: str = ""


@dataclass(frozen=True)
class Stored:
    """An event with everything that the store knows of it; stamps are CLOCK_REALTIME."""

    event: Event
    scope: str
    update_domain: str
    owner: str
    """Who drives it: a run's id, or ``rehearsal …``."""
    why: str
    announced_ns: int | None
    approved_ns: int | None
    approved_by: str | None
    started_ns: int | None
    removed_ns: int | None
    host: str
    """The host whose guests it is about; "" in a store that is not shared."""

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self.event.state


@dataclass(frozen=True)
class Sighting:
    """A guest's first poll of an incarnation."""

    uuid: str
    name: str
    scope: str
    incarnation: int
    at_ns: int


def scope_of_set(name: str, host: str = "") -> str:
    """The scope of an availability set; ``host``: its guests are on that one only."""
    return f"set@{host}:{name}" if host else f"set:{name}"


def scope_of_guest(uuid: str) -> str:
    """The scope of a guest that is in no availability set."""
    return f"guest:{uuid}"


def stored(row: RowMapping) -> Stored:
    """A row of ``event``."""
    event = Event(
        event_id=row["event_id"],
        event_type=EventType(row["event_type"]),
        resources=tuple(json.loads(row["resources"])),
        state=State(row["state"]),
        not_before_ns=row["not_before_ns"],
        description=row["description"],
        source=Source(row["source"]),
        duration_s=row["duration_s"],
    )
    keys = ("scope", "update_domain", "owner", "why", "announced_ns", "approved_ns")
    more = ("approved_by", "started_ns", "removed_ns", "host")
    return Stored(event, **{key: row[key] for key in (*keys, *more)})
