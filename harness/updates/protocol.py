"""What every kind of update offers.

Not every update can be applied under paused guests: a kind says whether it preserves the guests'
memory, how long it should take, and whether it needs the whole host paused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.core.settings import Scope
from harness.core.timebase import Deadline


@dataclass(frozen=True)
class UpdateContext:
    """For whom and where an update is applied; guest names are data."""

    run_id: str
    run_dir: Path
    update_domain: str
    guests: tuple[str, ...]
    state_dir: Path
    budget_s: float

    def mark(self, stage: str) -> str:
        """What the processes of one stage (``apply``, ``verify``, ``rollback``) carry."""
        return f"{self.run_id}/{self.update_domain}/{stage}"


@dataclass(frozen=True)
class Applied:
    """How an update ended that ended well."""

    returncode: int | None = None
    output: Path | None = None
    detail: str = ""


class HostUpdate(Protocol):
    """One update. ``check`` → ``prepare`` → ``apply`` → ``verify``, or else ``rollback``."""

    kind: str
    scope: Scope
    preserves_memory: bool
    expected_s: float
    expected_from: str
    """Where ``expected_s`` comes from, for people."""
    command: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know beforehand; complete after ``check``."""

    def check(self) -> None:
        """Find what can be known to be wrong at plan time; touches nothing.

        Raises UsageError, MissingCapability or UpdateFailed.
        """

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Do everything that can fail before a guest is paused.

        Raises UsageError, MissingCapability or UpdateFailed.
        """

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Apply it, while guests are paused. Raises UpdateFailed or UpdateOverran."""

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """Prove that it is in force; after the guests run again. Raises UpdateFailed."""

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """Undo what a failed or abandoned ``apply`` left. Raises UpdateFailed."""

    def abandon(self) -> None:
        """End a running ``apply`` at once; called from another thread, returns at once."""
