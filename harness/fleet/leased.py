"""Where leases of availability sets are configured, a run's notice takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.core.extras import require
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.maintenance.notice import Notice


@contextmanager
def leased(
    notice: Notice, url: str | None, *, hold_s: float, clock: Clock = SYSTEM_CLOCK
) -> Iterator[Notice]:
    """Return ``notice``, with leases if there is a database for them.

    Args:
        notice: How guests are told.
        url: Of that database; None: no lease is taken.
        hold_s: From the pause on a lease lasts at least so long.
        clock: For how long a lease lasts.

    Raises ConfigError for a URL that may not be used, MissingCapability for a library that is not
    installed.
    """
    if url is None:
        yield notice
        return
    require("history", "a lease of an availability set")
    from harness.fleet.database import FleetDatabase
    from harness.fleet.leased_notice import LeasedNotice

    yield LeasedNotice(notice, FleetDatabase(url, clock), hold_s=hold_s, clock=clock)
