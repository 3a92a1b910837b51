"""What it takes to copy the RAM of guests to where it can be kept: room, and time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Of each guest beside its RAM: devices' state, QEMU itself.
_MARGIN_BYTES = 64 << 20
#: Of each guest beside its RAM: QEMU ends and starts; measured 0.6 to 1.5 s on a quiet machine.
_FIXED_S = 2.0
_MIB = 1 << 20


@dataclass(frozen=True)
class Extent:
    """How large a guest is; bytes."""

    memory: int
    """Its RAM: so large is the file that it comes to lie in."""
    used: int
    """What of it was ever touched: so large is its state."""

    @property
    def state(self) -> int:
        """How large its state is at most."""
        return min(self.used, self.memory) + _MARGIN_BYTES

    def save_s(self, rate: float) -> float:
        """How long its RAM is written, at ``rate`` bytes a second."""
        return min(self.used, self.memory) / rate

    def load_s(self, rate: float) -> float:
        """How long it is read in again; a page that was never touched takes its time, too."""
        return _FIXED_S / 2 + self.memory / rate


@dataclass(frozen=True)
class Room:
    """What guests take at the worst moment; bytes."""

    folder: int
    """In libvirt's memory backing folder."""
    memory: int
    """Of the host's memory, beyond what they have now."""


def expected_s(extents: Sequence[Extent], rate: float) -> float:
    """Return how long copying takes (seconds), all at once sharing ``rate`` bytes a second."""
    copies = sum(one.save_s(rate) + one.load_s(rate) for one in extents)
    return _FIXED_S / 2 + copies


def start_s(extents: Sequence[Extent], rate: float) -> float:
    """Return how long it takes to bring all of them back by their states (seconds)."""
    return sum(one.load_s(rate) for one in extents)


def room(extents: Sequence[Extent], at_once: Sequence[Extent]) -> Room:
    """Return what it takes to copy ``extents``, ``at_once`` of them at the same time."""
    states = sum(one.state for one in at_once)
    files = sum(one.memory for one in extents)
    freed = sum(min(one.used, one.memory) for one in extents)
    return Room(files + states, files - freed + states)


def largest(extents: Sequence[Extent], count: int = 1) -> list[Extent]:
    """Return the ``count`` guests that take longest; the largest more than once if need be."""
    ordered = sorted(extents, key=lambda one: one.memory + one.used, reverse=True)
    return (ordered + ordered[:1] * count)[:count]


def mib(size: float) -> str:
    """``1536 MiB``."""
    return f"{size / _MIB:.0f} MiB"
