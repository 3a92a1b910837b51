"""The events, once, for run, server and command line: an SQLite database in the state folder.

Each change is one transaction that also counts the incarnations of the scopes it touches, so a
crash of any process leaves both or neither. Write-ahead logging: readers never wait for writers.
An object is for one thread; open one in each.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType

from harness.core.errors import EventError, InfrastructureError
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.events.document import VISIBLE, Event, Snapshot, State, check_transition
from harness.events.schema import SCHEMA_VERSION, TABLES, Member, Sighting, Stored, stored

FILE_NAME = "events.db"
_BUSY_S = 10.0
_STAMPS = {
    State.SCHEDULED: "announced_ns",
    State.STARTED: "started_ns",
    State.ENDED: "removed_ns",
    State.CANCELLED: "removed_ns",
}


class Store:
    """A connection to the events. Raises InfrastructureError for what the disk does to it."""

    def __init__(self, folder: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self.path = folder / FILE_NAME
        self._clock = clock
        with _translated(self.path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self.path.chmod(0o600)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # an incarnation must not go back
        with self.changing() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if version not in (0, SCHEMA_VERSION):
            raise InfrastructureError(
                f"{self.path} is of version {version}; this harness knows {SCHEMA_VERSION}"
            )

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or, after an exception, nothing."""
        with _translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, question: str, *values: str | int) -> list[sqlite3.Row]:
        """The rows that answer a question."""
        with _translated(self.path), closing(self._db.execute(question, values)) as found:
            return found.fetchall()

    def version(self) -> int:
        """Another number than last time if another connection has changed anything. Cheap."""
        return int(self.rows("PRAGMA data_version")[0][0])

    # guests

    def enrol(self, members: Iterable[Member]) -> None:
        """Say which scope each guest is in; a guest that is known already may move."""
        with self.changing() as db:
            for m in members:
                db.execute(
                    "INSERT INTO member VALUES (?, ?, ?, ?) ON CONFLICT (uuid) DO UPDATE SET "
                    "name = excluded.name, scope = excluded.scope, "
                    "update_domain = excluded.update_domain",
                    (m.uuid, m.name, m.scope, m.update_domain),
                )

    def members(self) -> list[Member]:
        """Every guest that was enrolled."""
        return [Member(*row) for row in self.rows("SELECT * FROM member ORDER BY name")]

    def snapshot(self, scope: str) -> Snapshot:
        """What the guests of ``scope`` see now."""
        # One statement, so both are of one moment.
        found = self.rows(
            "SELECT event.*, COALESCE(scope.incarnation, 1) AS incarnation FROM (SELECT ? AS key) "
            "LEFT JOIN scope ON scope.scope = key "
            "LEFT JOIN event ON event.scope = key AND state IN (?, ?) ORDER BY event.number",
            *(scope, *VISIBLE),
        )
        events = tuple(stored(row).event for row in found if row["event_id"] is not None)
        return Snapshot(found[0]["incarnation"], events)

    # the life of an event

    def plan(
        self, scope: str, update_domain: str, event: Event, *, owner: str, why: str = ""
    ) -> str:
        """Write down an event that no guest sees yet; return its id, which it keeps for life."""
        event_id = event.event_id or str(uuid.uuid4()).upper()
        with self.changing() as db:
            db.execute(
                "INSERT INTO event (event_id, scope, update_domain, event_type, resources, state, "
                "not_before_ns, description, source, duration_s, owner, why) "
                "VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?)",
                (
                    *(event_id, scope, update_domain, event.event_type),
                    *(json.dumps(event.resources), State.PLANNED, event.description),
                    *(event.source, event.duration_s, owner, why),
                ),
            )
        return event_id

    def announce(self, event_ids: Sequence[str], not_before_ns: int) -> None:
        """Show planned events to the guests. ``not_before_ns``: CLOCK_REALTIME, a whole second.

        Raises EventError if an event of another update domain of the same scope is in progress.
        """
        with self.changing() as db:
            db.executemany(
                "UPDATE event SET not_before_ns = ? WHERE event_id = ?",
                [(not_before_ns, event_id) for event_id in event_ids],
            )
            self._move(db, event_ids, State.SCHEDULED)

    def start(self, event_ids: Sequence[str]) -> None:
        """Mark events as started: from now on the guests may be paused.

        All of them or none: raises EventError if one was cancelled, or if another update domain of
        the same scope has started.
        """
        with self.changing() as db:
            self._move(db, event_ids, State.STARTED)

    def end(self, event_ids: Sequence[str]) -> None:
        """Remove started events: the guests' signal to recover. Those that are not are left."""
        self._leave(event_ids, State.STARTED, State.ENDED)

    def cancel(self, event_ids: Sequence[str]) -> Sequence[str]:
        """Remove events that have not started; returns which those were."""
        return self._leave(event_ids, State.PLANNED, State.CANCELLED) + self._leave(
            event_ids, State.SCHEDULED, State.CANCELLED
        )

    def _leave(self, event_ids: Sequence[str], before: State, after: State) -> list[str]:
        with self.changing() as db:
            leaving = [e for e in event_ids if self.find(e).state is before]
            self._move(db, leaving, after)
        return leaving

    def _move(self, db: sqlite3.Connection, event_ids: Sequence[str], after: State) -> None:
        now_ns = self._clock.realtime_ns()
        touched = set()
        for event_id in event_ids:
            found = self.find(event_id)
            if not check_transition(found.state, after):
                raise EventError(f"event {event_id} is {found.state} and cannot become {after}")
            if after in VISIBLE:
                _refuse_second_domain(found, self.events(*VISIBLE))
                touched.add(found.scope)
            elif found.state in VISIBLE:
                touched.add(found.scope)
            db.execute(
                f"UPDATE event SET state = ?, {_STAMPS[after]} = ? WHERE event_id = ?",
                (after, now_ns, event_id),
            )
        for scope in touched:
            # Nothing yet is 1, so the first change makes 2.
            db.execute(
                "INSERT INTO scope VALUES (?, 2) "
                "ON CONFLICT (scope) DO UPDATE SET incarnation = incarnation + 1",
                (scope,),
            )

    def approve(self, event_ids: Sequence[str], by: str, *, scope: str | None = None) -> None:
        """Approve events for all their guests; the first approval is the one that is kept.

        ``scope``: the scope of the guest that asks; an event of another is as unknown as one that
        does not exist. Raises EventError for an unknown id; then nothing has changed. No error
        for one that has started or is over.
        """
        with self.changing() as db:
            for event_id in event_ids:
                found = self.find(event_id)
                if scope is not None and found.scope != scope or found.state is State.PLANNED:
                    raise EventError(f"no event {event_id}")
                db.execute(
                    "UPDATE event SET approved_ns = ?, approved_by = ? "
                    "WHERE event_id = ? AND approved_ns IS NULL AND state = ?",
                    (self._clock.realtime_ns(), by, found.event.event_id, State.SCHEDULED),
                )

    def find(self, event_id: str) -> Stored:
        """One event. Raises EventError."""
        found = self.rows("SELECT * FROM event WHERE event_id = ?", event_id.upper())
        if not found:
            raise EventError(f"no event {event_id}", hint="harness events list")
        return stored(found[0])

    def events(self, *states: State) -> list[Stored]:
        """All events in one of ``states`` (none given: in any), oldest first."""
        wanted = states or tuple(State)
        marks = ", ".join("?" * len(wanted))
        found = self.rows(f"SELECT * FROM event WHERE state IN ({marks}) ORDER BY number", *wanted)
        return [stored(row) for row in found]

    # who looked

    def note_seen(self, sightings: Iterable[Sighting]) -> None:
        """Keep first polls of an incarnation; later ones of the same are left out."""
        with self.changing() as db:
            db.executemany(
                "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?, ?)",
                [(s.uuid, s.name, s.scope, s.incarnation, s.at_ns) for s in sightings],
            )

    def seen(self, scope: str, since_ns: int) -> list[Sighting]:
        """Who saw which incarnation of ``scope`` first when."""
        found = self.rows(
            "SELECT * FROM seen WHERE scope = ? AND at_ns >= ? ORDER BY at_ns", scope, since_ns
        )
        return [Sighting(*row) for row in found]


def _refuse_second_domain(event: Stored, visible: Sequence[Stored]) -> None:
    for other in visible:
        if other.scope == event.scope and other.update_domain != event.update_domain:
            raise EventError(
                f"update domain {other.update_domain} of {event.scope} has an event that is "
                f"{other.state} ({other.event.event_id}); update domains go one at a time",
                hint="wait for it, or cancel it: harness events cancel",
            )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise InfrastructureError(
            f"cannot use {path}: {error}", hint="free some space, or check its permissions"
        ) from error
