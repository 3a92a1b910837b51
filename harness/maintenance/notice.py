"""How guests learn of their pause: what a run asks of it, and the run that gives no notice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from harness.core.records import NoticeRecord
from harness.core.settings import AvailabilitySetSection
from harness.core.signals import Interruption
from harness.core.timebase import SYSTEM_CLOCK, Clock, utc_now
from harness.maintenance.plan import Plan, UpdateDomain, sets_of
from harness.maintenance.set_windows import refuse_closed
from harness.results.journal import Journal


class Notice(Protocol):
    """Announces update domains, one at a time, and waits until each may be paused.

    A promise: after ``wait`` has said so, and only then, the domain's guests may be paused; that
    is when a guest in scope has approved, or the announced time has come. Errors are of
    :mod:`harness.core.errors`.
    """

    def begin(self, plan: Plan, run_dir: Path, journal: Journal) -> None:
        """Write down what will be announced. Raises if no guest could be notified."""

    def announce(self, domain: UpdateDomain) -> str:
        """Tell the guests of a domain, and those that share a set with them, of the pause.

        Returns what a person should know of it; nothing if no guest was notified.
        """

    def wait(self, domain: UpdateDomain, seconds: float, interruption: Interruption) -> bool:
        """Wait for the permission to pause; False if ``seconds`` pass first: ask again.

        With the permission the guests see that it has started. Raises Interrupted, or
        EventError if it was cancelled.
        """

    def over(self, domain: UpdateDomain) -> None:
        """It is done, or will not happen: the guests see the event gone. Idempotent."""

    def close(self) -> None:
        """Nothing more will happen: whatever was not done is cancelled."""

    def record(self, domain_name: str) -> NoticeRecord | None:
        """Which guest saw and approved what when; None without a notice. Never raises."""


class Unannounced:
    """No guest is notified, and none is asked; windows of availability sets hold all the same."""

    def __init__(
        self, sets: Sequence[AvailabilitySetSection] = (), clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """Hold to ``sets``, which say when each availability set may be paused."""
        self._sets = sets
        self._clock = clock

    def begin(self, plan: Plan, run_dir: Path, journal: Journal) -> None:
        """Nothing to write down."""

    def announce(self, domain: UpdateDomain) -> str:
        """No guest to notify. Raises WindowClosed outside a set's window."""
        self._refuse_closed(domain)
        return ""

    def wait(self, domain: UpdateDomain, seconds: float, interruption: Interruption) -> bool:
        """At once. Raises WindowClosed where it has closed while baselines were taken."""
        self._refuse_closed(domain)
        return True

    def over(self, domain: UpdateDomain) -> None:
        """Nothing to remove."""

    def close(self) -> None:
        """Nothing to cancel."""

    def record(self, domain_name: str) -> NoticeRecord | None:
        """Nothing to record."""
        return None

    def _refuse_closed(self, domain: UpdateDomain) -> None:
        refuse_closed(self._sets, sets_of(domain.guests), utc_now(self._clock))
