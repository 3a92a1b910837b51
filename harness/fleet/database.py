"""The fleet's database: leases, the waves of rollouts, and how far their hosts are."""

from __future__ import annotations

from harness.core.storage.shared import SharedDatabase
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.fleet.schema import LAYOUT

KEY = "fleet.database"


class FleetDatabase(SharedDatabase):
    """By its URL. Connected for each question: it is asked a few times a run."""

    def __init__(self, url: str, clock: Clock = SYSTEM_CLOCK) -> None:
        """Raises as :class:`SharedDatabase`."""
        super().__init__(url, LAYOUT, key=KEY, name="the fleet's database", clock=clock)
