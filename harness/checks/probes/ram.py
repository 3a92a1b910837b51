"""Watches the memory of the guest's QEMU process, from the host."""

from __future__ import annotations

from contextlib import suppress

from harness.checks.probes.protocol import Probe, Scene
from harness.checks.ram import Residency
from harness.core.errors import MissingCapability, ProbeError
from harness.core.timebase import Deadline
from harness.guest.facts import GuestOs
from harness.host.protocol import ProcessIdentity
from harness.host.qemu_memory import Resident, is_alive, is_set_aside, resident


class ResidencyProbe(Probe):
    """Looks at VmRSS, VmSwap and major faults: before, at both edges of the pause, and after."""

    tells = Residency
    serves = frozenset(GuestOs)

    def __init__(self) -> None:
        self._set_aside = False
        self._before: Resident | None = None
        self._paused: Resident | None = None
        self._resuming: Resident | None = None

    def start(self, scene: Scene, deadline: Deadline) -> None:
        """Find the process. Raises MissingCapability."""
        self._process = visible(scene)
        self._set_aside = is_set_aside(self._process.pid)
        self._before = self._look()

    def mark(self, deadline: Deadline) -> None:
        """Look again: what probes cause by starting is no fault of the pause."""
        self._before = self._look()

    def paused(self) -> None:
        """The first look in the pause."""
        self._paused = self._look()

    def resuming(self) -> None:
        """The last look in the pause."""
        self._resuming = self._resuming or self._look()

    def stop(self, deadline: Deadline) -> Residency:
        """Look once more. Raises ProbeError if the process is another one now."""
        if self._before is None or not is_alive(self._process):
            raise ProbeError(f"QEMU's process {self._process.pid} is gone")
        last = self._look()
        return Residency(
            self._before, self._paused, self._resuming, last, set_aside=self._set_aside
        )

    def _look(self) -> Resident | None:
        with suppress(OSError, ValueError, IndexError):
            return resident(self._process.pid)
        return None


def visible(scene: Scene) -> ProcessIdentity:
    """The guest's QEMU process. Raises MissingCapability where it cannot be seen."""
    if scene.process is None:
        raise MissingCapability("process", "QEMU's process is not visible from here")
    return scene.process
