"""Watches the CPU time of the guest's vCPU threads, from the host."""

from __future__ import annotations

from contextlib import suppress

from harness.checks.probes.protocol import Probe, Scene
from harness.checks.probes.ram import visible
from harness.checks.vcpus import VcpuTime
from harness.core.errors import DeadlineExpired, MissingCapability
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.guest.facts import GuestOs
from harness.host.qemu_memory import cpu_time_ns, sleeps, vcpu_threads

#: So long may a thread go on after QEMU has said that the guest is stopped: one that emulates then
#: does what was queued for it, such as freeing its tables. A guest that still runs goes on longer.
FALLING_ASLEEP_S = 0.02


class VcpuProbe(Probe):
    """Reads every vCPU thread's time at both edges of the pause."""

    tells = VcpuTime
    serves = frozenset(GuestOs)

    def __init__(self) -> None:
        self._threads: tuple[int, ...] = ()
        self._paused: dict[int, int] | None = None
        self._resuming: dict[int, int] | None = None

    def start(self, scene: Scene, deadline: Deadline) -> None:
        """Find the threads. Raises MissingCapability."""
        self._pid = visible(scene).pid
        with suppress(OSError):
            self._threads = vcpu_threads(self._pid)
        if not self._threads or self._look() is None:
            raise MissingCapability("vcpu-threads", "QEMU's vCPU threads have no names to know by")

    def paused(self) -> None:
        """The guest has just been paused: look as soon as its threads sleep, or do not."""
        with suppress(OSError, ValueError, IndexError, DeadlineExpired):
            deadline = Deadline.after(FALLING_ASLEEP_S)
            wait_for(self._asleep, what="vCPUs", deadline=deadline, interval_s=0.001)
        self._paused = self._look()

    def resuming(self) -> None:
        """It is about to be resumed; of several attempts the first counts, as it was paused."""
        self._resuming = self._resuming or self._look()

    def stop(self, deadline: Deadline) -> VcpuTime:
        """What both looks have found."""
        return VcpuTime(self._paused, self._resuming)

    def _asleep(self) -> None:
        if not all(sleeps(self._pid, thread) for thread in self._threads):
            raise NotYet("a vCPU is on a CPU")

    def _look(self) -> dict[int, int] | None:
        with suppress(OSError, ValueError, IndexError):
            return {thread: cpu_time_ns(self._pid, thread) for thread in self._threads}
        return None
