"""Where leases of availability sets are configured, a run's notice takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from harness.core.errors import InfrastructureError
from harness.core.extras import require
from harness.core.settings import FleetSection
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.maintenance.notice import Notice
from harness.maintenance.plan import PlannedGuest, sets_of


def foresee_leases(
    fleet: FleetSection, guests: Iterable[PlannedGuest], clock: Clock = SYSTEM_CLOCK
) -> tuple[str, ...]:
    """Return warnings about sets that are leased now, or whose last lease ended by itself.

    Also that the database cannot be used: then no guest of a set would be paused.
    """
    sets = sets_of(guests)
    if fleet.database is None or not sets:
        return ()
    require("history", "a lease of an availability set")
    from harness.fleet.database import FleetDatabase
    from harness.fleet.leases import leases_of

    database = FleetDatabase(fleet.database, clock)
    try:
        with database.looking() as connection:
            now_s, known = database.now_s(connection), leases_of(connection)
    except InfrastructureError as error:
        return (f"{error.message}; without it no guest of a set is paused",)
    return tuple(
        one.lapsed(now_s)
        if one.expires_s <= now_s
        else f"availability set {one.availability_set} is held by {one.describe(now_s)}"
        for one in known
        if one.availability_set in sets
    )


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
