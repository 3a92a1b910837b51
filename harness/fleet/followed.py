"""Where the fleet's database is configured, a host's part of a rollout is written there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from harness.core.errors import HarnessError
from harness.core.extras import require
from harness.core.settings import Config
from harness.maintenance.notice import Notice
from harness.results.answer import Answer


class Followed(Protocol):
    """What the views of the fleet learn of this host's part of a rollout. Never raises ours."""

    def begins(self, later_s: float = 0.0) -> None:
        """It was begun; no guest is paused yet, nor within ``later_s``."""

    def run_begins(self, run_id: str) -> None:
        """Note the run that carries it out; told with what follows."""

    def around(self, notice: Notice) -> Notice:
        """Return ``notice``, with each update domain's beginning and end told."""

    def ended(self, answer: Answer, *, known: bool = False) -> None:
        """It is over; ``known``: it was before, and is written where the database lacks it."""

    def died(self, error: HarnessError) -> None:
        """Its run was found dead: neither over nor recovered."""


class Unfollowed:
    """There is no database, or none that can be used."""

    def begins(self, later_s: float = 0.0) -> None:
        """Not told."""

    def run_begins(self, run_id: str) -> None:
        """Not told."""

    def around(self, notice: Notice) -> Notice:
        """Return it as it is."""
        return notice

    def ended(self, answer: Answer, *, known: bool = False) -> None:
        """Not told."""

    def died(self, error: HarnessError) -> None:
        """Not told."""


def followed(config: Config, rollout: str, tell: Callable[[str], object]) -> Followed:
    """Return what is written of this host's part of ``rollout``, by the configuration in force.

    A database that may not be used, or whose library is not installed, is for the run to refuse.
    ``tell``: called with a line for a person where the database cannot be told.
    """
    fleet = config.fleet
    if fleet.database is None:
        return Unfollowed()
    try:
        require("history", "the views of a fleet")
        from harness.fleet.database import FleetDatabase
        from harness.fleet.progress import Patience, Progress

        database = FleetDatabase(fleet.database)
    except HarnessError:
        return Unfollowed()
    return Progress(database, rollout, fleet.host, Patience.of(config), tell)
