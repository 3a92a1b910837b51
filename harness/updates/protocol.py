"""What every kind of update offers.

Not every update can be applied under paused guests: a kind says whether it preserves the guests'
memory, how long it should take, and whether it needs the whole host paused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from harness.core.timebase import Deadline


class Scope(StrEnum):
    """Which guests must be paused together for an update."""

    HOST = "host"  # all guests of the host
    GUEST = "guest"  # each guest can be an update domain of its own


_APT_KEYS = frozenset({"packages", "repository", "previous", "hold", "reinstall", "simulate"})
#: The keys of ``[update]`` that only some kinds have; every other key is for all kinds.
KEYS_OF_KIND: Mapping[str, frozenset[str]] = {
    "stand-in": frozenset({"duration_s"}),
    "command": frozenset({"command", "verify", "rollback"}),
    "packages": _APT_KEYS,
    "libvirt": _APT_KEYS,
    "kernel-module": frozenset({"module", "action", "parameters"}),
    "sysctl": frozenset({"sysctl"}),
    "hold": frozenset(),
}


@dataclass(frozen=True)
class UpdateSettings:
    """The ``[update]`` section; None and empty mean: the kind's own default."""

    kind: str = "stand-in"
    command: tuple[str, ...] = ()
    expected_s: float | None = None
    expected_from: str = "update.expected_s"
    """Where ``expected_s`` comes from, for people."""
    scope: Scope | None = None
    preserves_memory: bool = True
    duration_s: float = 5.0
    verify: tuple[str, ...] = ()
    rollback: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    repository: Path | None = None
    previous: Path | None = None
    hold: tuple[str, ...] = ()
    reinstall: bool = False
    simulate: bool = False
    module: str | None = None
    action: str = "load"
    parameters: tuple[str, ...] = ()
    sysctl: tuple[str, ...] = ()
    uri: str = "qemu:///system"
    """The libvirt connection of the run: whose host is updated."""
    state_dir: Path | None = None
    """Where a kind may keep what it needs at plan time already."""

    def expectation(self, default_s: float) -> tuple[float, str]:
        """How long it should take (seconds), and where that comes from."""
        if self.expected_s is not None:
            return self.expected_s, self.expected_from
        return default_s, f"the default of kind {self.kind}"


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
