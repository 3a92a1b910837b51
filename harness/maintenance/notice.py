"""How guests learn of their pause: what a run asks of it, and the run that gives no notice."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from harness.core.records import NoticeRecord
from harness.core.signals import Interruption
from harness.maintenance.plan import Plan, UpdateDomain
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
    """No guest is notified, and none is asked."""

    def begin(self, plan: Plan, run_dir: Path, journal: Journal) -> None:
        """Nothing to write down."""

    def announce(self, domain: UpdateDomain) -> str:
        """No guest to notify."""
        return ""

    def wait(self, domain: UpdateDomain, seconds: float, interruption: Interruption) -> bool:
        """At once."""
        return True

    def over(self, domain: UpdateDomain) -> None:
        """Nothing to remove."""

    def close(self) -> None:
        """Nothing to cancel."""

    def record(self, domain_name: str) -> NoticeRecord | None:
        """Nothing to record."""
        return None
