"""Before the pause: each guest's clock, kernel-log marker and identity, and its probes started."""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks.evidence import Observed
from harness.core.records import ClockReading
from harness.guest.kernel_log import KernelLog


@dataclass(frozen=True)
class Baseline:
    """One guest before the pause."""

    clock: ClockReading
    seen: Observed
    kernel_log: KernelLog
