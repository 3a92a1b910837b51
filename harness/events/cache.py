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

from harness.core.errors import HarnessError
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.events.document import Document, Snapshot, render
from harness.events.schema import Member, Sighting, faults, scope_of_guest
from harness.events.store import Store

#: Sightings are written together.
_GATHER_S = 0.2


class Desk:
    """For the thread of one event loop; ``close`` it in the end."""

    def __init__(self, folder: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._reader = Store(folder, clock)
        self._writer = Store(folder, clock)
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
        self._reader.close()
        self._writer.close()

    def _refresh(self) -> None:
        version = self._reader.version()
        if version == self._version:
            return
        self._snapshots.clear()
        self._documents.clear()
        self._members = {member.uuid: member for member in self._reader.members()}
        self._faults = {
            row["scope"]: (row["kind"], row["until_ns"])
            for row in self._reader.rows(sa.select(faults))
        }
        self._version = version

    def member(self, uuid: str, name: str) -> Member:
        """The guest as it was enrolled; one that was not is on its own."""
        self._refresh()
        return self._members.get(uuid) or Member(uuid, name, scope_of_guest(uuid))

    def snapshot(self, scope: str) -> Snapshot:
        """What the guests of a scope see now."""
        self._refresh()
        if scope not in self._snapshots:
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
        return all(self.snapshot(scope) == Snapshot(number) for scope, number in seen)

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
