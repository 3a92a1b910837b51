"""Availability sets with guests on other hosts too: what has to be shared before one is paused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.core.errors import PlanError
from harness.core.settings import AvailabilitySetSection, set_section
from harness.maintenance.plan import PlannedGuest, sets_of


def refuse_unshared(
    sets: Sequence[AvailabilitySetSection],
    guests: Iterable[PlannedGuest],
    *,
    database: str | None,
    notice_s: float | None,
    store: str | None,
) -> None:
    """Raise PlanError for a set that spans hosts where the hosts do not share what they must.

    ``sets`` say which span hosts; ``database``: the URL of what they share; ``notice_s``: how long
    before the pause guests are notified, None: not at all; ``store``: the URL of their events.

    Without a lease two hosts could pause its guests at once. Its Scheduled Events would be told to
    the guests of this host only, and those of the others could neither see nor approve them.
    """
    for name in sets_of(guests):
        if not set_section(sets, name).spans_hosts:
            continue
        if database is None:
            raise PlanError(
                f"availability set {name} spans hosts, and they share no database: another host "
                "could pause its guests at the same time",
                hint='[fleet] database = "postgresql://USER@HOST/DATABASE", on each of them',
            )
        if notice_s is not None and store is None:
            raise PlanError(
                f"availability set {name} spans hosts, and its guests on other hosts cannot be "
                "told: the hosts share no store of events",
                hint='[events] store = "postgresql://USER@HOST/DATABASE", on each of them',
            )
