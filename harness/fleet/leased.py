"""Where leases of availability sets are configured, a run's notice takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.core.extras import require
from harness.core.settings import FleetSection
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.maintenance.notice import Notice


@contextmanager
def leased(
    notice: Notice, fleet: FleetSection, *, hold_s: float, clock: Clock = SYSTEM_CLOCK
) -> Iterator[Notice]:
    """Return ``notice``, with leases if there is a database for them.

    Args:
        notice: How guests learn of it.
        fleet: Which database that is, and what this host is called there.
        hold_s: From the pause on a lease lasts at least so long.
        clock: For how long a lease lasts.

    Raises ConfigError for a URL that may not be used, MissingCapability for a library that is not
    installed.
    """
    if fleet.database is None:
        yield notice
        return
    require("history", "a lease of an availability set")
    from harness.fleet.database import FleetDatabase
    from harness.fleet.leased_notice import LeasedNotice

    database = FleetDatabase(fleet.database, clock)
    yield LeasedNotice(notice, database, hold_s=hold_s, host=fleet.host, clock=clock)
