"""What a guest is like that was paused for 5 s and suffered no harm, as its checks see it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.checks.canary import Canary
from harness.checks.disk import DiskWriter
from harness.checks.downtime import Downtime
from harness.checks.evidence import Evidence, Missing, Observed
from harness.checks.guest_life import Life, Look
from harness.checks.ram import Residency
from harness.checks.tcp_session import TcpSession
from harness.checks.timers import Timers
from harness.checks.vcpus import VcpuTime
from harness.core.records import ClockReading, IdentityRecord, Outcome, WatchRecord
from harness.host.protocol import ProcessIdentity
from harness.host.qemu_memory import Resident

STALL = "[  99.1] watchdog: BUG: soft lockup - CPU#0 stuck for 23s! [swapper/0:0]"


def clock(
    offset_s: float, uncertainty_s: float = 0.001, monotonic_s: float | None = None
) -> ClockReading:
    """Return a reading of ``offset_s`` that is as sure as ``uncertainty_s``."""
    return ClockReading(
        offset_s=offset_s,
        uncertainty_s=uncertainty_s,
        monotonic_s=monotonic_s,
        monotonic_uncertainty_s=None if monotonic_s is None else 0.001,
    )


SEEN = Observed("boot-1", ProcessIdentity(4711, 100))

RESIDENT = Resident(rss_bytes=300 << 20, swap_bytes=0, major_fault_bytes=4096)
LOOK = Look(
    uptime_s=1000.0,
    processes={(1, 5): "init", (400, 99_000): "cron"},
    mounts={"/": "/dev/vda ext4 rw"},
    connections=frozenset({"a → b"}),
    resets=3,
)
#: What every probe tells of a pause that did no harm.
TESTIMONY: dict[type, Any] = {
    Residency: Residency(RESIDENT, RESIDENT, RESIDENT, RESIDENT),
    VcpuTime: VcpuTime({11: 500}, {11: 500}),
    Canary: Canary(4096, "a" * 64, "a" * 64),
    Life: Life(LOOK, LOOK, LOOK),
    Downtime: Downtime("udp", 0.01, 5.02, 0.0, 600, 600),
    TcpSession: TcpSession("tcp", 60, 60, 5, 0, None, 3),
    DiskWriter: DiskWriter("/var/tmp", 90, 40, 0, 0, 0.05),
    Timers: Timers(0.05, 100, 0.02, 1, 100, None, None),
}

#: A guest that was paused for 5 s, lagged by 5 s and was corrected.
GOOD = Evidence(
    budget_s=30.0,
    tolerance_s=0.010,
    lag_tolerance_s=0.25,
    before=SEEN,
    after=SEEN,
    paused_at_least_s=4.99,
    paused_at_most_s=5.01,
    clock_before=clock(0.0, monotonic_s=-1000.0),
    clock_after_resume=clock(-5.0, monotonic_s=-1005.0),
    clock_at_end=clock(0.0001),
    correction_problem=None,
    kernel_log_readable=True,
    new_kernel_lines=("[ 99.0] harmless",),
    stall_lines=(),
    identity=IdentityRecord(bound_by="machine-uuid", detail="machine UUID 4c4c4544-0001"),
    watch=WatchRecord(outcome=Outcome.PASS, duration_s=60.0, readings=60, worst_offset_s=0.0002),
    watch_asked=True,
    testimony=TESTIMONY,
    events=("suspended", "resumed"),
)

#: What is left of it when nothing could be measured.
NOTHING = replace(
    GOOD,
    identity=None,
    before=Observed(),
    after=Observed(),
    paused_at_least_s=None,
    paused_at_most_s=None,
    clock_before=None,
    clock_after_resume=None,
    clock_at_end=None,
    kernel_log_readable=False,
    new_kernel_lines=None,
    stall_lines=None,
    watch=None,
    events=None,
    testimony=dict.fromkeys(TESTIMONY, Missing("it fell silent", known_before=False)),
)


def told(testimony: object) -> dict[str, Any]:
    """Return GOOD's testimony with one of them changed, as a field of an Evidence."""
    return {"testimony": {**TESTIMONY, type(testimony): testimony}}
