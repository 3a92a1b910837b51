"""What a method of correction is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from harness.clock.policy import Remedy
from harness.clock.target import Reach
from harness.core.records import ClockReading
from harness.core.timebase import NS_PER_S, Deadline


@dataclass(frozen=True)
class Change:
    """What an attempt has to do to a clock."""

    reading: ClockReading
    """Just taken."""
    target_s: float = 0.0
    """The offset that the clock is to have."""
    late_s: float = 0.0
    """How much later than it expected earlier attempts by this method took effect."""

    @property
    def shift_ns(self) -> int:
        """What to add to the guest's clock."""
        return round((self.target_s - self.reading.offset_s) * NS_PER_S)


class Method(ABC):
    """One way to correct a clock; without a state of its own."""

    name: ClassVar[str]
    remedy: ClassVar[Remedy] = Remedy.STEP

    @abstractmethod
    def obstacle(self, reach: Reach) -> str | None:
        """Why this guest's clock cannot be corrected this way, in words; None if it can."""

    @abstractmethod
    def apply(self, reach: Reach, change: Change, deadline: Deadline) -> None:
        """One attempt. Raises a HarnessError if it was refused."""

    def is_step(self, reach: Reach) -> bool:
        """Whether one step by the clock agent is all that it does to this guest's clock."""
        return False

    def settle(self, reach: Reach, deadline: Deadline) -> bool:
        """Once the clock is right: notify the time daemon that sets it too. Return True if one was.

        Raises a HarnessError if that was refused.
        """
        return False
