"""A guardian in memory: says what it was told, and dies when asked to."""

from __future__ import annotations

import os

from harness.core.errors import GuardianLost


class FakeGuard:
    """``calls`` lists what it was asked; with ``silent`` it does not answer; ``die`` ends it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.silent = False
        self.lost = False
        self.fd = os.eventfd(0)

    def arm(self, limit_s: float, mark: str) -> None:
        self.calls.append(f"arm {limit_s:g} {mark}")
        if self.silent:
            raise GuardianLost("the guardian does not answer, so nothing was paused")

    def disarm(self) -> None:
        self.calls.append("disarm")

    def die(self) -> None:
        self.lost = True
        os.eventfd_write(self.fd, 1)
