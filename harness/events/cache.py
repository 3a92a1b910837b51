"""The store as the server uses it: documents from memory, writes in a thread of their own.

Many guests ask for the same few documents, so one is rendered once and kept until the store
changes. Nothing here blocks the event loop but reading a handful of rows after a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from harness.core.errors import HarnessError, InfrastructureError
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.events.copy import STALE_S, Copy
from harness.events.document import Document, Snapshot, render
from harness.events.schema import Member, Sighting, faults, scope_of_guest
from harness.events.shared import SharedStore
from harness.events.store import Look, Store

#: Sightings are written together.
_GATHER_S = 0.2


class Desk:
    """For the thread of one event loop; ``close`` it in the end."""

    def __init__(
        self, folder: Path, clock: Clock = SYSTEM_CLOCK, shared: SharedStore | None = None
    ) -> None:
        """``shared``: where hosts share their events; None: they are in ``folder``."""
        self._clock = clock
        self._writer = Store(folder, clock, shared)
        self._reader: Store | None = None
        self._copy: Copy | None = None
        if shared is None:
            self._reader = Store(folder, clock)
        else:
            self._copy = Copy(partial(Store, folder, clock, shared), clock)
            self._copy.wait(STALE_S)
        self._look: Look | None = None
        self._thread = ThreadPoolExecutor(1, "events-store")
        self._version = -1
        self._members: dict[str, Member] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._documents: dict[tuple[str, str], Document] = {}
        self._faults: dict[str, tuple[str, int]] = {}
        self._last_seen: dict[str, tuple[str, int]] = {}
        self._sightings: list[Sighting] = []
        self._writing: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Write what is still to be written, and let go."""
        self._thread.shutdown()
        with suppress(HarnessError):
            self._writer.note_seen(self._sightings)
        if self._reader is not None:
            self._reader.close()
        if self._copy is not None:
            self._copy.close()
        self._writer.close()

    def _refresh(self) -> None:
        """Raises InfrastructureError if what guests see is not known."""
        if self._copy is not None:
            self._take(self._copy.latest())
        elif self._reader is not None:
            self._read(self._reader)

    def _take(self, look: Look) -> None:
        if look is self._look:
            return
        self._look = look
        if look.snapshots != self._snapshots:
            self._documents.clear()
        self._members, self._faults = dict(look.members), dict(look.faults)
        self._snapshots = dict(look.snapshots)

    def _read(self, reader: Store) -> None:
        version = reader.version()
        if version == self._version:
            return
        self._snapshots.clear()
        self._documents.clear()
        self._members.clear()  # each is asked for when it comes: there may be thousands
        self._faults = {
            row["scope"]: (row["kind"], row["until_ns"]) for row in reader.rows(sa.select(faults))
        }
        self._version = version

    def member(self, uuid: str, name: str) -> Member:
        """The guest as it was enrolled; one that was not is on its own."""
        self._refresh()
        if uuid not in self._members:
            enrolled = self._reader.member(uuid) if self._reader is not None else None
            if enrolled is None:
                return Member(uuid, name, scope_of_guest(uuid))
            self._members[uuid] = enrolled
        return self._members[uuid]

    def snapshot(self, scope: str) -> Snapshot:
        """What the guests of a scope see now."""
        self._refresh()
        if scope not in self._snapshots:
            if self._reader is None:  # of a guest that was enrolled since
                raise InfrastructureError(f"what {scope} sees is not known yet")
            self._snapshots[scope] = self._reader.snapshot(scope)
        return self._snapshots[scope]

    def document(self, scope: str, version: str) -> Document:
        """The document of a scope in an api-version that we have."""
        snapshot = self.snapshot(scope)
        key = (scope, version)
        if key not in self._documents:
            self._documents[key] = render(snapshot, version)
        return self._documents[key]

    def fault(self, scope: str) -> str | None:
        """The fault that a rehearsal wants this scope to see now."""
        self._refresh()
        kind, until_ns = self._faults.get(scope, (None, 0))
        return kind if self._clock.realtime_ns() < until_ns else None

    async def approve(self, event_ids: Sequence[str], member: Member) -> None:
        """Record an approval. Raises EventError for an event that this guest does not have."""
        approve = partial(self._writer.approve, event_ids, by=member.name, scope=member.scope)
        await asyncio.get_running_loop().run_in_executor(self._thread, approve)
        if self._copy is not None:
            self._copy.soon()

    def saw(self, member: Member, incarnation: int) -> bool:
        """Note that a guest was shown an incarnation; whether that was the first time."""
        if self._last_seen.get(member.uuid) == (member.scope, incarnation):
            return False
        self._last_seen[member.uuid] = (member.scope, incarnation)
        at_ns = self._clock.realtime_ns()
        self._sightings.append(Sighting(member.uuid, member.name, member.scope, incarnation, at_ns))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_soon())
        return True

    def everybody_knows(self) -> bool:
        """Whether every guest that has asked has seen that nothing is left."""
        seen = self._last_seen.values()
        try:
            return all(self.snapshot(scope) == Snapshot(number) for scope, number in seen)
        except InfrastructureError:  # not before it is known what there is to know
            return False

    async def _write_soon(self) -> None:
        while self._sightings:
            await asyncio.sleep(_GATHER_S)
            written, self._sightings = self._sightings, []
            with suppress(HarnessError):  # a full disk must not keep guests from their document
                await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._writer.note_seen, written
                )

    def now_s(self) -> float:
        """CLOCK_MONOTONIC in seconds."""
        return self._clock.monotonic_ns() / NS_PER_S
