"""A store of events that several hosts share: a database by its URL.

Each host writes of its own guests and reads of all of them, so that guests of a set that spans
hosts see what is to happen to any of them, and may approve it.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace

from harness.core.settings import EventsSection, FleetSection
from harness.core.storage.shared import SharedDatabase
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.events.store_file import LAYOUT

KEY = "events.store"
#: Beside the history and the fleet's tables, whose versions are others.
_LAYOUT = replace(LAYOUT, version_table="events_version", adopt=lambda connection: None)


@dataclass(frozen=True)
class SharedStore:
    """Where it is, and what this host is called there."""

    url: str
    host: str

    @classmethod
    def of(cls, events: EventsSection, fleet: FleetSection) -> SharedStore | None:
        """Return that of a configuration; None: the events are in the state folder."""
        if events.store is None:
            return None
        return cls(events.store, fleet.host or platform.node())

    def database(self, clock: Clock = SYSTEM_CLOCK) -> SharedDatabase:
        """Return the database, not connected yet. Raises as :class:`SharedDatabase`."""
        name = "the store of events"
        return SharedDatabase(self.url, _LAYOUT, key=KEY, name=name, keep=True, clock=clock)
