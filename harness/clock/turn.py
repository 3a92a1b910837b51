"""A guest's turn among others whose clocks are corrected as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.clock.sampling import BUSY_S


class Turn:
    """What a correction says to those who have clocks of their own; this one has no others."""

    @property
    def beside(self) -> int:
        """Return how many other clocks were to be set at the same second before this one was."""
        return 0

    @property
    def busy_s(self) -> float:
        """Return for how long a guest that answers late is asked again, before ``later``."""
        return BUSY_S

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Have few others read their clocks while the block reads this one."""
        yield

    def right(self) -> None:
        """The clock is right: what is less urgent about it may wait for others that are not."""

    def later(self) -> bool:
        """Wait until fewer guests answer at once, because this one could not be read well enough.

        Return False at once where that would not help, or was tried often enough.
        """
        return False


ALONE = Turn()
