"""The events, once, for run, server and command line: in the state folder, or shared by hosts.

Each change is one transaction that also counts the incarnations of the scopes it touches, so a
crash of any process leaves both or neither. An object is for one thread; open one in each.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from harness.core.errors import EventError
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.events.document import VISIBLE, Event, Snapshot, State, check_transition
from harness.events.schema import (
    Member,
    Sighting,
    Stored,
    events,
    faults,
    members,
    scopes,
    sightings,
    stored,
)
from harness.events.shared import SharedStore
from harness.events.store_file import FILE_NAME, EventsFile, EventsShared, Tables

_STAMPS = {
    State.SCHEDULED: "announced_ns",
    State.STARTED: "started_ns",
    State.ENDED: "removed_ns",
    State.CANCELLED: "removed_ns",
}


@dataclass(frozen=True)
class Look:
    """All that the guests of one host see at one moment."""

    members: Mapping[str, Member]
    """By UUID."""
    snapshots: Mapping[str, Snapshot]
    """By scope."""
    faults: Mapping[str, tuple[str, int]]
    """By scope: the kind, and until when (ns)."""


class Store:
    """A connection to the events. Raises InfrastructureError for what the disk does to it."""

    def __init__(
        self, folder: Path, clock: Clock = SYSTEM_CLOCK, shared: SharedStore | None = None
    ) -> None:
        """``shared``: where hosts share them; None: they are this host's, in ``folder``."""
        self.path = folder / FILE_NAME
        self.host = shared.host if shared is not None else ""
        self._clock = clock
        self._tables: Tables
        if shared is None:
            self._tables = EventsFile(folder)
        else:
            self._tables = EventsShared(shared.database(clock))
        self.changing = self._tables.changing
        self.rows = self._tables.rows
        self.version = self._tables.version
        self.insert = self._tables.insert
        self.look_s = self._tables.look_s

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
        """Let go of it."""
        self._tables.close()

    # guests

    def enrol(self, guests: Iterable[Member]) -> None:
        """Say which scope each guest is in; a guest that is known already may move."""
        with self.changing() as db:
            for guest in guests:
                row = self.insert(members).values(**vars(guest), host=self.host)
                keys = ("name", "scope", "update_domain", "host")
                named = {key: row.excluded[key] for key in keys}
                db.execute(row.on_conflict_do_update(index_elements=[members.c.uuid], set_=named))

    def members(self) -> list[Member]:
        """Every guest of this host that was enrolled."""
        query = _MEMBERS.where(members.c.host == self.host).order_by(members.c.name)
        return [Member(**row) for row in self.rows(query)]

    def member(self, uuid: str) -> Member | None:
        """A guest of this host; None if it was not enrolled."""
        found = self.rows(_MEMBER, wanted=uuid, here=self.host)
        return Member(**found[0]) if found else None

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
                    host=self.host,
                )
            )
        return event_id

    def announce(
        self, event_ids: Sequence[str], not_before_ns: int, *, leased: bool = False
    ) -> None:
        """Show planned events to the guests. ``not_before_ns``: CLOCK_REALTIME, a whole second.

        ``leased``: this run has the lease of every set whose scope spans hosts, so that what
        another host still shows there is of a run that died, and is removed.

        Raises EventError if an event of another update domain, or another host, of the same scope
        is in progress.
        """
        with self.changing() as db:
            if leased:
                self._remove_abandoned(db, event_ids)
            db.execute(
                sa.update(events)
                .where(events.c.event_id.in_(event_ids))
                .values(not_before_ns=not_before_ns)
            )
            self._move(db, event_ids, State.SCHEDULED)

    def _remove_abandoned(self, db: sa.Connection, event_ids: Sequence[str]) -> None:
        ours = {self.find(event_id).scope for event_id in event_ids}
        for other in self.events(*VISIBLE):
            if other.scope in ours and other.host != self.host:
                after = State.ENDED if other.state is State.STARTED else State.CANCELLED
                self._move(db, [other.event.event_id], after)

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
                self.insert(scopes)
                .values(scope=scope, incarnation=2)
                .on_conflict_do_update(
                    index_elements=[scopes.c.scope],
                    set_={"incarnation": scopes.c.incarnation + 1},
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

    def look(self) -> Look:
        """Return all that the guests of this host see, as of one moment; of a shared store."""
        own = sa.select(members.c.scope).where(members.c.host == self.host)
        visible = sa.and_(events.c.scope.in_(own), events.c.state.in_(VISIBLE))
        with self._tables.looking():
            known = self.members()
            counted = self.rows(sa.select(scopes).where(scopes.c.scope.in_(own)))
            shown = self.rows(sa.select(events).where(visible).order_by(events.c.number))
            wrong = self.rows(sa.select(faults).where(faults.c.scope.in_(own)))
        by_scope: dict[str, list[Event]] = {}
        for row in shown:
            by_scope.setdefault(row["scope"], []).append(stored(row).event)
        numbers = {row["scope"]: row["incarnation"] for row in counted}
        return Look(
            {member.uuid: member for member in known},
            {
                scope: Snapshot(numbers.get(scope, 1), tuple(by_scope.get(scope, ())))
                for scope in {member.scope for member in known} | numbers.keys()
            },
            {row["scope"]: (row["kind"], row["until_ns"]) for row in wrong},
        )

    # who looked

    def note_seen(self, polls: Iterable[Sighting]) -> None:
        """Keep first polls of an incarnation; later ones of the same are left out."""
        rows = [vars(poll) for poll in polls]
        with self.changing() as db:
            if rows:
                db.execute(self.insert(sightings).on_conflict_do_nothing(), rows)

    def seen(self, scope: str, since_ns: int) -> list[Sighting]:
        """Who saw which incarnation of ``scope`` first when."""
        query = sa.select(sightings).where(
            sightings.c.scope == scope, sightings.c.at_ns >= since_ns
        )
        return [Sighting(**row) for row in self.rows(query.order_by(sightings.c.at_ns))]


_MEMBERS = sa.select(*(members.c[field.name] for field in fields(Member)))
_MEMBER = _MEMBERS.where(
    members.c.uuid == sa.bindparam("wanted"), members.c.host == sa.bindparam("here")
)


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
        same = (other.host, other.update_domain) == (event.host, event.update_domain)
        if other.scope == event.scope and not same:
            where = f" on {other.host}" if other.host else ""
            raise EventError(
                f"update domain {other.update_domain}{where} of {event.scope} has an event that is "
                f"{other.state} ({other.event.event_id}); update domains go one at a time",
                hint="wait for it, or cancel it: harness events cancel",
            )
