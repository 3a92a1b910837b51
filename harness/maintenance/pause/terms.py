"""What a pause window is held under: its limits, the update, and the observers of its edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.results.journal import Member
from harness.updates.protocol import Applied


@dataclass(frozen=True)
class UpdateCalls:
    """What the window may ask of an update."""

    apply: Callable[[Deadline], Applied]
    abandon: Callable[[], None]
    mark: str = ""
    """What its processes carry in their environment, for a guardian that has to end them."""
    quiesce: Callable[[Deadline], None] = lambda deadline: None
    """Return when it does nothing to a guest any more, and will not, or at the deadline."""


@dataclass(frozen=True)
class Edges:
    """What observers get at the edges of each guest's pause, inside the window.

    Both have to be quick. What they raise is dropped, and one that hangs is not waited for: no
    observer keeps a guest from its resume.
    """

    paused: Callable[[Member], None] = lambda member: None
    """The guest is paused, and so are all others of its update domain, or it took them long."""
    resuming: Callable[[Member], None] = lambda member: None
    """The guest is about to be resumed, with all others; again before each further attempt."""


NO_EDGES = Edges()


@dataclass(frozen=True)
class Limits:
    """How long the parts of a pause window may take, counted from its first pause."""

    budget_s: float
    """What the whole pause window may take."""
    resume_reserve_s: float
    """What of the budget is kept for the resume: the update is abandoned before."""
    resume_patience_s: float
    """How long a resume is tried again, whatever the budget was."""
    clock: Clock = SYSTEM_CLOCK

    def update_deadline(self) -> Deadline:
        """Return when an update that begins now is abandoned."""
        return Deadline.after(self.budget_s - self.resume_reserve_s, self.clock)

    def resume_deadline(self) -> Deadline:
        """Return when guests that do not run by then are given up, if resuming begins now."""
        return Deadline.after(self.resume_patience_s, self.clock)

    @property
    def guardian_s(self) -> float:
        """When the guardian steps in: half-way from the run's own resume to the budget."""
        return self.budget_s - self.resume_reserve_s / 2
