"""Kind ``hold``: no update at all; guests stay paused for a person to look around.

It ends by itself before the time for the resume comes, and earlier when it is abandoned.
"""

from __future__ import annotations

import threading
from typing import ClassVar, Literal

from harness.core.errors import UpdateFailed
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.updates.protocol import THIS_HOST, Applied, Site, UpdateContext, UpdateSettings

#: How long before its deadline it lets go.
_SPARE_S = 0.25


class HoldSettings(UpdateSettings):
    """``[update]`` of kind ``hold``."""

    learns: ClassVar[bool] = False

    kind: Literal["hold"] = "hold"


class HoldUpdate:
    """Waits; changes nothing."""

    kind = "hold"
    command: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __init__(self, settings: HoldSettings, site: Site = THIS_HOST) -> None:
        self.scope = settings.scope or Scope.HOST
        self.preserves_memory = True
        self.expected_s, self.expected_from = settings.expectation(1.0, site)
        self._abandoned = threading.Event()

    def check(self) -> None:
        """Nothing to find."""

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Forget an earlier abandonment."""
        self._abandoned.clear()

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Wait until just before the deadline. Raises UpdateFailed if abandoned earlier."""
        if self._abandoned.wait(timeout=max(0.0, deadline.remaining_s() - _SPARE_S)):
            raise UpdateFailed("the hold was abandoned")
        return Applied(detail="held")

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """Nothing to prove."""

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """Nothing to undo."""

    def abandon(self) -> None:
        """Let go at once."""
        self._abandoned.set()
