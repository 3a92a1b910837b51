"""Watches the memory of the guest's QEMU process, from the host."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from harness.checks.probes.protocol import Probe, Scene
from harness.checks.ram import Residency, shrank
from harness.core.errors import MissingCapability, ProbeError
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline
from harness.guest.facts import GuestOs
from harness.host.protocol import ProcessIdentity
from harness.host.qemu_memory import Resident, is_alive, is_set_aside, ram_resident, resident

#: What a look at the guest's RAM alone may cost that is taken in the pause. It grows with the
#: number of pages: where it takes longer, VmRSS has to do.
WORTH_NS = NS_PER_S // 20
#: Less than so many times that may be a busy moment of the host, so it is tried once more.
_BUSY_TIMES = 10


class ResidencyProbe(Probe):
    """Looks at its memory before, at both edges of the pause, and after."""

    tells = Residency
    serves = frozenset(GuestOs)

    def __init__(self) -> None:
        self._set_aside = False
        self._before: Resident | None = None
        self._paused: Resident | None = None
        self._resuming: Resident | None = None
        self._quickest_ns: int | None = None

    def start(self, scene: Scene, deadline: Deadline) -> None:
        """Find the process. Raises MissingCapability."""
        self._process = visible(scene)
        self._set_aside = is_set_aside(self._process.pid)
        self._before = self._look()

    def mark(self, deadline: Deadline) -> None:
        """Look again: what probes cause by starting is no fault of the pause."""
        self._before = self._look_before()
        if WORTH_NS < (self._quickest_ns or 0) <= _BUSY_TIMES * WORTH_NS:
            self._before = self._look_before()

    def paused(self) -> None:
        """The first look in the pause."""
        self._paused = self._look()

    def resuming(self) -> None:
        """The last look in the pause."""
        self._resuming = self._resuming or self._look_at_the_end()

    def stop(self, deadline: Deadline) -> Residency:
        """Look once more. Raises ProbeError if the process is another one now."""
        if self._before is None or not is_alive(self._process):
            raise ProbeError(f"QEMU's process {self._process.pid} is gone")
        last = self._look()
        return Residency(
            self._before, self._paused, self._resuming, last, set_aside=self._set_aside
        )

    def _look_before(self) -> Resident | None:
        """With a look at RAM alone; the quickest counts."""
        began_ns = SYSTEM_CLOCK.monotonic_ns()
        seen = self._with_ram(self._look())
        took_ns = SYSTEM_CLOCK.monotonic_ns() - began_ns
        self._quickest_ns = min(took_ns, self._quickest_ns or took_ns)
        return seen

    def _worth(self) -> bool:
        return self._quickest_ns is None or self._quickest_ns <= WORTH_NS

    def _look_at_the_end(self) -> Resident | None:
        """At RAM alone as well, but only where the process has shrunk: guests wait for it."""
        seen = self._look()
        if seen is None or self._paused is None or not shrank(self._paused, seen):
            return seen
        return self._with_ram(seen) if self._worth() else seen

    def _with_ram(self, seen: Resident | None) -> Resident | None:
        with suppress(OSError, ValueError, IndexError):
            if seen is not None:
                return replace(seen, ram_bytes=ram_resident(self._process.pid))
        return seen

    def _look(self) -> Resident | None:
        with suppress(OSError, ValueError, IndexError):
            return resident(self._process.pid)
        return None


def visible(scene: Scene) -> ProcessIdentity:
    """The guest's QEMU process. Raises MissingCapability where it cannot be seen."""
    if scene.process is None:
        raise MissingCapability("process", "QEMU's process is not visible from here")
    return scene.process
