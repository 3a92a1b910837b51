"""The events, once, for run, server and command line: an SQLite database in the state folder.

Each change is one transaction that also counts the incarnations of the scopes it touches, so a
crash of any process leaves both or neither. Write-ahead logging: readers never wait for writers.
An object is for one thread; open one in each.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from harness.core.errors import EventError
from harness.core.files import private_folder
from harness.core.storage.database import (
    bring_up_to_date,
)
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.core.trust import refuse_untrusted
from harness.events.document import VISIBLE, Event, Snapshot, State, check_transition
from harness.events.schema import (
    Member,
    Sighting,
    Stored,
    events,
    members,
    scopes,
    sightings,
    stored,
)
from harness.events.store_file import FILE_NAME, LAYOUT, engine_for, translated

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
        with translated(self.path):
            refuse_untrusted(private_folder(folder))
            self._engine = engine_for(self.path)
            self._db = self._engine.connect()
            # Four times a poll; by SQLAlchemy it would cost more than all the rest of an answer.
            self._driver: Any = self._db.connection.driver_connection
        try:
            with self.changing() as db:
                bring_up_to_date(db, LAYOUT)
        except BaseException:
            self.close()
            raise

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
        self._engine.dispose()

    @contextmanager
    def changing(self) -> Iterator[sa.Connection]:
        """One transaction: all of it or, after an exception, nothing."""
        with translated(self.path):
            self._db.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.rollback()
                raise
            self._db.commit()

    def rows(self, question: sa.Select[Any], **values: str) -> Sequence[sa.RowMapping]:
        """Return the rows that answer a question."""
        with translated(self.path):
            return self._db.execute(question, values).mappings().all()

    def version(self) -> int:
        """Return a number that differs after any other connection commits. Cheap."""
        with translated(self.path):
            return int(self._driver.execute("PRAGMA data_version").fetchone()[0])

    # guests

    def enrol(self, guests: Iterable[Member]) -> None:
        """Say which scope each guest is in; a guest that is known already may move."""
        with self.changing() as db:
            for guest in guests:
                row = insert(members).values(**vars(guest))
                named = {key: row.excluded[key] for key in ("name", "scope", "update_domain")}
                db.execute(row.on_conflict_do_update([members.c.uuid], set_=named))

    def members(self) -> list[Member]:
        """Every guest that was enrolled."""
        return [Member(**row) for row in self.rows(sa.select(members).order_by(members.c.name))]

    def snapshot(self, scope: str) -> Snapshot:
        """What the guests of ``scope`` see now."""
        found = self.rows(_SNAPSHOT, wanted=scope)
        seen = tuple(stored(row).event for row in found if row["event_id"] is not None)
        return Snapshot(found[0]["incarnation"], seen)

    # the life of an event

    def plan(
        self, scope: str, update_domain: str, event: Event, *, owner: str, why: str = ""
    ) -> str:
        """Write down an event that no guest sees yet; return its id, which it keeps for life."""
        event_id = event.event_id or str(uuid.uuid4()).upper()
        with self.changing() as db:
            db.execute(
                sa.insert(events).values(
                    event_id=event_id,
                    scope=scope,
                    update_domain=update_domain,
                    event_type=event.event_type,
                    resources=json.dumps(event.resources),
                    state=State.PLANNED,
                    not_before_ns=0,
                    description=event.description,
                    source=event.source,
                    duration_s=event.duration_s,
                    owner=owner,
                    why=why,
                )
            )
        return event_id

    def announce(self, event_ids: Sequence[str], not_before_ns: int) -> None:
        """Show planned events to the guests. ``not_before_ns``: CLOCK_REALTIME, a whole second.

        Raises EventError if an event of another update domain of the same scope is in progress.
        """
        with self.changing() as db:
            db.execute(
                sa.update(events)
                .where(events.c.event_id.in_(event_ids))
                .values(not_before_ns=not_before_ns)
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

    def _move(self, db: sa.Connection, event_ids: Sequence[str], after: State) -> None:
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
                sa.update(events)
                .where(events.c.event_id == event_id)
                .values({"state": after, _STAMPS[after]: now_ns})
            )
        for scope in touched:
            # Nothing yet is 1, so the first change makes 2.
            db.execute(
                insert(scopes)
                .values(scope=scope, incarnation=2)
                .on_conflict_do_update(
                    [scopes.c.scope], set_={"incarnation": scopes.c.incarnation + 1}
                )
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
                    sa.update(events)
                    .where(events.c.event_id == found.event.event_id)
                    .where(events.c.approved_ns.is_(None), events.c.state == State.SCHEDULED)
                    .values(approved_ns=self._clock.realtime_ns(), approved_by=by)
                )

    def find(self, event_id: str) -> Stored:
        """One event. Raises EventError."""
        found = self.rows(_ONE, wanted=event_id.upper())
        if not found:
            raise EventError(f"no event {event_id}", hint="harness events list")
        return stored(found[0])

    def events(self, *states: State) -> list[Stored]:
        """All events in one of ``states`` (none given: in any), oldest first."""
        wanted = states or tuple(State)
        query = sa.select(events).where(events.c.state.in_(wanted)).order_by(events.c.number)
        return [stored(row) for row in self.rows(query)]

    # who looked

    def note_seen(self, polls: Iterable[Sighting]) -> None:
        """Keep first polls of an incarnation; later ones of the same are left out."""
        rows = [vars(poll) for poll in polls]
        with self.changing() as db:
            if rows:
                db.execute(insert(sightings).on_conflict_do_nothing(), rows)

    def seen(self, scope: str, since_ns: int) -> list[Sighting]:
        """Who saw which incarnation of ``scope`` first when."""
        query = sa.select(sightings).where(
            sightings.c.scope == scope, sightings.c.at_ns >= since_ns
        )
        return [Sighting(**row) for row in self.rows(query.order_by(sightings.c.at_ns))]


def _snapshot() -> sa.Select[Any]:
    """One statement, so that the incarnation and the events are of one moment."""
    key = sa.select(sa.bindparam("wanted", type_=sa.Text).label("key")).subquery()
    visible = sa.and_(events.c.scope == key.c.key, events.c.state.in_(VISIBLE))
    return (
        sa.select(events, sa.func.coalesce(scopes.c.incarnation, 1).label("incarnation"))
        .select_from(key)
        .outerjoin(scopes, scopes.c.scope == key.c.key)
        .outerjoin(events, visible)
        .order_by(events.c.number)
    )


_SNAPSHOT = _snapshot()
_ONE = sa.select(events).where(events.c.event_id == sa.bindparam("wanted"))


def _refuse_second_domain(event: Stored, visible: Sequence[Stored]) -> None:
    for other in visible:
        if other.scope == event.scope and other.update_domain != event.update_domain:
            raise EventError(
                f"update domain {other.update_domain} of {event.scope} has an event that is "
                f"{other.state} ({other.event.event_id}); update domains go one at a time",
                hint="wait for it, or cancel it: harness events cancel",
            )
