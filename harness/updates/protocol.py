"""What every kind of update offers.

Not every update can be applied under paused guests: a kind says whether it preserves the guests'
memory, how long it should take, and whether it needs the whole host paused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, NoReturn, Protocol, runtime_checkable

from pydantic import ConfigDict

from harness.core.file_names import file_name
from harness.core.settings import Scope, UpdateSection
from harness.core.timebase import Deadline
from harness.host.parking import Parking
from harness.host.protocol import GuestInfo, Hypervisor
from harness.results.journal.entries import Leaving


@dataclass(frozen=True)
class ExpectedDuration:
    """How long an update is expected to take, by the records of earlier runs."""

    expected_s: float
    count: int
    """The number of earlier updates that say so."""

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        return f"the longest of {self.count} earlier" if self.count > 1 else "one earlier run"


@dataclass(frozen=True)
class Site:
    """Where the update of a run is applied, as known before there is a plan."""

    uri: str = "qemu:///system"
    """The libvirt connection of the run: whose host is updated."""
    state_dir: Path | None = None
    """Where a kind may keep what it needs at plan time already."""
    earlier: ExpectedDuration | None = None
    follows: tuple[str, ...] = ()
    """The kinds whose windows come before this one's and have not been held yet: what they will
    have changed by then is not judged."""


THIS_HOST = Site()


class UpdateSettings(UpdateSection):
    """The ``[update]`` section of one kind: its own keys are fields of a subclass."""

    model_config = ConfigDict(extra="forbid")

    learns: ClassVar[bool] = True
    """Whether earlier runs tell how long it takes; False where its settings do."""

    def expectation(self, default_s: float, site: Site) -> tuple[float, str]:
        """Return how long it should take (seconds), and where that comes from."""
        if self.expected_s is not None:
            return self.expected_s, "update.expected_s"
        if site.earlier is not None:
            return site.earlier.expected_s, site.earlier.source
        return default_s, f"the default of kind {self.kind}"


@dataclass(frozen=True)
class Needs:
    """What an update of so many guests at once takes; seconds."""

    expected_s: float
    """How long it should take, inside the window."""
    reserve_s: float
    """What of the budget it takes to bring every guest back if it is abandoned half-way."""


@dataclass(frozen=True)
class SwapPlan:
    """One guest whose QEMU is to be replaced; each ``old`` and ``new``."""

    parking: Parking
    emulators: dict[str, str]
    """The programs."""
    versions: dict[str, str]
    """What they say of themselves."""


class NextKernel(Protocol):
    """A kernel of this host that is loaded, and to which parked guests are handed over."""

    @property
    def release(self) -> str:
        """As ``uname -r`` will say."""

    @property
    def plan(self) -> str:
        """The file of the thaw plan."""

    def sync(self) -> None:
        """Return when everything that was written is on the disks."""

    def leaving(self) -> Leaving:
        """Return what tells that kernel what time it is. Raises HarnessError."""

    def start(self) -> NoReturn:
        """Start it: the end of this process. Raises UpdateFailed if this kernel goes on."""


class GuestSwap(Protocol):
    """What a window offers an update that replaces the QEMU of its guests."""

    def prepare(self, plans: Sequence[SwapPlan]) -> None:
        """Write down, before the pause, that these guests may be parked, and how they come back.

        Raises JournalError.
        """

    def swap(self, parking: Parking, deadline: Deadline) -> None:
        """Replace the QEMU of one paused guest, which stays paused; from any thread.

        Raises UpdateFailed if the new QEMU refuses: the guest is in its old one then, or, where
        there was no time, is brought back by the resume. DeadlineExpired: nothing was begun.
        """

    def hand_over(
        self, parkings: Sequence[Parking], kernel: NextKernel, deadline: Deadline
    ) -> NoReturn:
        """Park all guests and start the next kernel, which brings them back.

        Raises UpdateFailed or DeadlineExpired if this kernel goes on: the resume brings them back.
        """

    def quiesce(self, deadline: Deadline) -> None:
        """Begin nothing more, and return when nothing is done to any guest, or at the deadline."""


@runtime_checkable
class GuestUpdate(Protocol):
    """What an update that replaces the QEMU of its guests offers beside :class:`HostUpdate`."""

    def examine(
        self, guests: Sequence[GuestInfo], hypervisor: Hypervisor, deadline: Deadline
    ) -> None:
        """Find at plan time which guests cannot take part, and why; touches nothing.

        Raises PlanError naming every reason of every guest.
        """

    def needs(self, guests: int) -> Needs:
        """Return what it takes for so many guests at once."""


@runtime_checkable
class LeavesThisKernel(Protocol):
    """What an update whose window this process does not outlive offers beside the others."""

    @property
    def release(self) -> str:
        """Of the kernel that is to come."""


@dataclass(frozen=True)
class UpdateContext:
    """The guests and the host that an update is applied for; guest names are data."""

    run_id: str
    run_dir: Path
    update_domain: str
    guests: tuple[str, ...]
    state_dir: Path
    budget_s: float
    swap: GuestSwap | None = None
    """For an update that replaces the QEMU of its guests."""

    def mark(self, stage: str) -> str:
        """What the processes of one stage (``apply``, ``verify``, ``rollback``) carry."""
        return f"{self.run_id}/{self.update_domain}/{stage}"

    def output(self, stage: str) -> Path:
        """Return the file for what the programs of one stage print; ``update`` when applied."""
        return self.run_dir / f"{stage}-{file_name(self.update_domain)}.log"


@dataclass(frozen=True)
class Applied:
    """How an update ended that ended well."""

    returncode: int | None = None
    output: Path | None = None
    detail: str = ""


class Progress(StrEnum):
    """How far one of several updates of a window got."""

    WAITING = "waiting"  # not begun
    BEGUN = "begun"  # and has not succeeded
    APPLIED = "applied"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class Part:
    """One of several updates of a window, and what became of it."""

    kind: str
    command: tuple[str, ...] = ()
    progress: Progress = Progress.WAITING
    duration_s: float | None = None
    returncode: int | None = None
    detail: str = ""


@runtime_checkable
class SeveralUpdates(Protocol):
    """What several updates of one window offer beside :class:`HostUpdate`."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Each of them in order, and what became of it in the last window."""


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
