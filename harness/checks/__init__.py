"""What must still be true after the pause: one promise a module, each judged measured vs allowed.

A check is a pure function of the :class:`~harness.checks.evidence.Evidence` about one guest. To
add one, write its module with a ``judge``, add it to ``CHECKS``, its name to
``harness.core.settings.CheckName``, what it means to ``results/report/meanings.py`` and its words
to ``tests/data/checks.json``. A check that needs a probe to watch through the pause names the type
of the probe's testimony in ``NEEDS``; the probes are in :mod:`harness.checks.probes`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from harness.checks import (
    canary,
    clock_offset,
    clock_watch,
    connections,
    custom,
    disk,
    downtime,
    frozen,
    host_boot,
    host_clock,
    host_kernel,
    identity,
    kernel_log,
    lag,
    libvirt_events,
    mounts,
    pause_window,
    processes,
    qemu_version,
    ram,
    ram_inode,
    same_boot,
    same_process,
    tcp_session,
    timers,
    vcpus,
)
from harness.checks.evidence import Evidence
from harness.core.records import CheckRecord


@dataclass(frozen=True)
class Check:
    """One promise: how it is judged, and whose testimony that takes."""

    judge: Callable[[Evidence], CheckRecord]
    needs: type | None = None

    def __call__(self, evidence: Evidence) -> CheckRecord:
        """The verdict on one guest."""
        return self.judge(evidence)


#: In the order in which people read them.
CHECKS: Mapping[str, Check] = {
    pause_window.NAME: Check(pause_window.judge),
    identity.NAME: Check(identity.judge),
    downtime.NAME: Check(downtime.judge, downtime.NEEDS),
    clock_offset.NAME: Check(clock_offset.judge),
    clock_watch.NAME: Check(clock_watch.judge),
    lag.NAME: Check(lag.judge),
    frozen.NAME: Check(frozen.judge),
    vcpus.NAME: Check(vcpus.judge, vcpus.NEEDS),
    same_boot.NAME: Check(same_boot.judge),
    same_process.NAME: Check(same_process.judge),
    libvirt_events.NAME: Check(libvirt_events.judge),
    qemu_version.NAME: Check(qemu_version.judge),
    ram_inode.NAME: Check(ram_inode.judge),
    host_kernel.NAME: Check(host_kernel.judge),
    host_boot.NAME: Check(host_boot.judge),
    host_clock.NAME: Check(host_clock.judge),
    ram.NAME: Check(ram.judge, ram.NEEDS),
    canary.NAME: Check(canary.judge, canary.NEEDS),
    processes.NAME: Check(processes.judge, processes.NEEDS),
    connections.NAME: Check(connections.judge, connections.NEEDS),
    mounts.NAME: Check(mounts.judge, mounts.NEEDS),
    tcp_session.NAME: Check(tcp_session.judge, tcp_session.NEEDS),
    disk.NAME: Check(disk.judge, disk.NEEDS),
    timers.NAME: Check(timers.judge, timers.NEEDS),
    kernel_log.NAME: Check(kernel_log.judge),
}


def judge_all(
    evidence: Evidence, names: Collection[str] = tuple(CHECKS)
) -> tuple[CheckRecord, ...]:
    """The verdicts of the checks called ``names`` on one guest, and of the user's own.

    The watch is a promise only where it was asked for; those about another QEMU, or another kernel
    of the host, only where that was to be replaced.
    """
    asked = set(names) if evidence.watch_asked else set(names) - {clock_watch.NAME}
    if evidence.swapped is None:
        asked -= {qemu_version.NAME, ram_inode.NAME}
    if evidence.change is None:
        asked -= {host_kernel.NAME, host_boot.NAME, host_clock.NAME}
    ours = (check(evidence) for name, check in CHECKS.items() if name in asked)
    return (*ours, *custom.judge(evidence))
