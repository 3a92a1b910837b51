"""The tables of the store, and rows as records."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from harness.events.document import Event, EventType, Source, State

SCHEMA_VERSION = 1

TABLES = """
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
"""


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


def scope_of_set(name: str) -> str:
    """The scope of an availability set."""
    return f"set:{name}"


def scope_of_guest(uuid: str) -> str:
    """The scope of a guest that is in no availability set."""
    return f"guest:{uuid}"


def stored(row: sqlite3.Row) -> Stored:
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
    more = ("approved_by", "started_ns", "removed_ns")
    return Stored(event, **{key: row[key] for key in (*keys, *more)})
