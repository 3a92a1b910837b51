"""Where leases of availability sets are configured, a run's notice takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.core.extras import require
from harness.core.settings import Config
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.maintenance.notice import Notice


@contextmanager
def leased(config: Config, notice: Notice, clock: Clock = SYSTEM_CLOCK) -> Iterator[Notice]:
    """Return ``notice``, with leases where the configuration names a database for them.

    Raises ConfigError for a URL that may not be used, MissingCapability for a library that is not
    installed.
    """
    url = config.fleet.database
    if url is None:
        yield notice
        return
    require("history", "a lease of an availability set")
    from harness.fleet.database import FleetDatabase
    from harness.fleet.leased_notice import LeasedNotice

    after_s = config.mend_timeout_s + config.clock.watch_s
    hold_s = config.budget_s + config.resume_patience_s + after_s
    yield LeasedNotice(notice, FleetDatabase(url, clock), hold_s=hold_s, clock=clock)
