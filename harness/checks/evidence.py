"""What was seen of one guest before, during and after its pause; None: it could not be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from harness.core.records import CheckRecord, ClockReading, IdentityRecord, Outcome, WatchRecord
from harness.host.protocol import ProcessIdentity

T = TypeVar("T")


@dataclass(frozen=True)
class Missing:
    """Why a probe has nothing to tell."""

    reason: str
    known_before: bool
    """It could not watch, and said so before the pause; else it was to tell and fell silent."""


#: What each probe told, by the type of what it tells.
Testimony = Mapping[type, object]


@dataclass(frozen=True)
class Swapped:
    """A guest whose QEMU was replaced in the pause; None: it could not be seen."""

    process: ProcessIdentity | None
    """The one that this run started last with the guest's RAM."""
    ram_before: Mapping[str, str]
    """Name of each RAM file → ``device:inode``."""
    ram_after: Mapping[str, str] | None
    version_planned: str
    version_after: str | None
    changes: tuple[str, ...] = ()
    """What else is different about it, for people."""
    copied: bool = False
    """Its RAM was copied, to where it can be kept the next time."""


@dataclass(frozen=True)
class HostChange:
    """The host's kernel was replaced in the pause, and how that went. Seconds."""

    release_before: str
    release_wanted: str
    release_now: str
    boot_before: str
    boot_now: str
    clock_moved_s: float | None
    """By how much the host's CLOCK_REALTIME was set by the CPU's counter; None: it was not."""
    clock_known_s: float | None
    """How well it was known then."""


@dataclass(frozen=True)
class Observed:
    """One look at a guest."""

    boot_id: str | None = None
    process: ProcessIdentity | None = None
    process_ended: bool = False
    """The process that was seen before is surely no more."""


@dataclass(frozen=True)
class Evidence:
    """All that the checks of one guest may judge by. Seconds; offsets are guest − host."""

    budget_s: float
    tolerance_s: float
    lag_tolerance_s: float
    before: Observed
    after: Observed
    paused_at_least_s: float | None
    paused_at_most_s: float | None
    clock_before: ClockReading | None
    clock_after_resume: ClockReading | None
    clock_at_end: ClockReading | None
    """After the correction; the reading after resume where nothing was corrected."""
    correction_problem: str | None
    kernel_log_readable: bool
    """Whether the guest's user could read the kernel log before the pause."""
    new_kernel_lines: tuple[str, ...] | None
    stall_lines: tuple[str, ...] | None
    correction_doubt: str | None = None
    """Why a clock that is right in the end may not stay so."""
    clock_target_s: float = 0.0
    """The offset that the clock should have in the end, and how sure that is."""
    clock_target_uncertainty_s: float = 0.0
    identity: IdentityRecord | None = None
    """What binds the login to the guest; None: no login."""
    watch: WatchRecord | None = None
    watch_asked: bool = False
    swapped: Swapped | None = None
    """None: its QEMU was to stay."""
    change: HostChange | None = None
    """None: the host's kernel was to stay."""
    events: tuple[str, ...] | None = None
    """The kinds of libvirt's lifecycle events since the pause began; None: some may be missing."""
    testimony: Testimony = field(default_factory=dict)
    kernel_log_has_gap: bool = False
    """Lines since the marker are lost: the log has wrapped, was cleared, or is another boot's."""
    may_catch_up: bool = False
    """The guest counts ticks, and may be given those that it missed: the lag shrinks by itself."""
    limits: str | None = None
    """What the way into the guest cannot tell, known before the pause; None: nothing."""
    own_asked: tuple[str, ...] = ()
    """Names of the user's own checks that this guest answers for."""

    def told(self, kind: type[T]) -> T | Missing:
        """What the probe that tells ``kind`` has told, or why it did not."""
        found = self.testimony.get(kind)
        if isinstance(found, kind | Missing):
            return found
        return Missing("not watched", known_before=True)

    @property
    def pause_s(self) -> tuple[float, float] | None:
        """The pause as middle and half-width: it lies within middle ± half-width."""
        if self.paused_at_least_s is None or self.paused_at_most_s is None:
            return None
        middle = (self.paused_at_most_s + self.paused_at_least_s) / 2
        return middle, (self.paused_at_most_s - self.paused_at_least_s) / 2


def unknown(name: str, why: str) -> CheckRecord:
    """The verdict when there is nothing to judge by: never a pass."""
    return CheckRecord(name=name, outcome=Outcome.ERROR, detail=why)


def missing(name: str, gap: Missing) -> CheckRecord:
    """SKIP where no probe could watch, known before the pause; ERROR where a probe fell silent."""
    outcome = Outcome.SKIP if gap.known_before else Outcome.ERROR
    return CheckRecord(name=name, outcome=outcome, detail=gap.reason)
