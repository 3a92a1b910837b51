"""A guest in the queue of those whose clocks are corrected, and how much of a place it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from threading import Event

#: A clock that is set to a whole second waits for that most of its turn: so many share a place.
#: More would be at work in the same instant, 5 ms each under emulation, and be set too late.
WAIT_TOGETHER = 4


class Stage(IntEnum):
    """How far a guest's clock is; the least comes first."""

    WRONG = 0
    UNSURE = 1
    """It could not be read well enough while others answered, too."""
    RIGHT = 2
    """What is left is less urgent: to look at it closely."""


#: Of ``WAIT_TOGETHER`` shares that a place has, what a clock takes that is set to a whole second.
#: One that is looked at closely is slewed at times, and waits for that; one that could not be read
#: beside so many is read beside fewer.
_SHARES = {Stage.WRONG: 1, Stage.UNSURE: WAIT_TOGETHER, Stage.RIGHT: 2}


@dataclass(order=True)
class Holder:
    """A guest that waits for a place or has one; the most urgent is the least."""

    behind: tuple[float, float, float]
    """Its stage, and then by its owner's word and its clock."""
    number: int
    called: Event = field(default_factory=Event, compare=False)
    """It has a place, or it is the first of all that wait and has to look when one is free."""
    has_place: bool = field(default=False, compare=False)
    waits: bool = field(default=False, compare=False)
    """Its clock is set to a whole second, and that is waited for."""
    heard: Callable[[], int] = field(default=lambda: 0, compare=False)
    """When it answered last, on CLOCK_MONOTONIC."""
    since_ns: int = field(default=0, compare=False)
    """Since when it has its place."""
    beside: int = field(default=0, compare=False)
    """How many that wait for a whole second had their place before it."""

    @property
    def stage(self) -> Stage:
        """How far its clock is."""
        return Stage(int(self.behind[0]))

    @property
    def share(self) -> int:
        """Of ``WAIT_TOGETHER`` shares that a place has, how many it takes."""
        return _SHARES[self.stage] if self.waits else WAIT_TOGETHER

    @property
    def sets(self) -> bool:
        """Whether its clock is to be set to a whole second."""
        return self.waits and self.stage is not Stage.RIGHT
