"""An update in memory that does what a test wants while the guests are paused."""

from __future__ import annotations

from collections.abc import Callable

from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.updates.protocol import Applied, UpdateContext


class Meddling:
    """A HostUpdate that calls ``apply``; ``calls`` lists what it was asked, in order.

    ``failing`` names calls that raise: ``{"verify": KeyError("x")}``.
    """

    kind = "meddling"
    command: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    scope = Scope.GUEST
    preserves_memory = True
    expected_s = 0.1
    expected_from = "a test"

    def __init__(
        self, apply: Callable[[], object] = lambda: None, **failing: BaseException
    ) -> None:
        self._apply = apply
        self._failing = failing
        self.calls: list[str] = []

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if what in self._failing:
            raise self._failing[what]

    def check(self) -> None:
        """Note it."""
        self._call("check")

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Note it."""
        self._call("prepare")

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Do what the test wants."""
        self._call("apply")
        self._apply()
        return Applied()

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """Note it."""
        self._call("verify")

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """Note it."""
        self._call("rollback")

    def abandon(self) -> None:
        """Note it."""
        self._call("abandon")
