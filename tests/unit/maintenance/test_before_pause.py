"""What is looked at right before guests are paused, and how many at once."""

from __future__ import annotations

import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

from harness.checks.evidence import Observed
from harness.clock.policy import CorrectionPolicy
from harness.clock.sampling import BUSY_S
from harness.core.records import ClockReading
from harness.core.settings import ChecksSection, ClockSection
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.guest.kernel_log import KernelLog
from harness.maintenance import before_pause
from harness.maintenance.before_pause import take_baselines
from harness.maintenance.correction_queue import CorrectionQueue


class Readers:
    """Clocks that are being read; the most at once."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.measured = threading.Lock(), 0, 0, 0

    def measure_date(self, deadline: Deadline) -> None:
        self.measured += 1

    def read_well(self, *_: Any, busy_s: float = BUSY_S) -> ClockReading:
        assert busy_s < BUSY_S, "its turn over, the next comes in beside it"
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        SYSTEM_CLOCK.sleep(0.03)
        with self.lock:
            self.now -= 1
        return ClockReading(offset_s=0.0, uncertainty_s=0.001)


def test_of_many_guests_few_clocks_are_read_at_once(monkeypatch, tmp_path):
    """Sixty that answer together are known to 50 ms; and to that, then, are their clocks judged."""
    readers = Readers()
    session: Any = SimpleNamespace(
        sampler=readers,
        settings=ClockSection(),
        policy=lambda: CorrectionPolicy(tolerance_s=0.020),
        watch_with=lambda probes: None,
        probes=None,
    )
    monkeypatch.setattr(before_pause, "_probes", lambda *_: None)
    monkeypatch.setattr(before_pause, "_look_first", lambda *_: (Observed(), KernelLog(None)))
    few = partial(CorrectionQueue, at_once=2, slack=lambda: None)
    monkeypatch.setattr(before_pause, "CorrectionQueue", few, raising=False)
    sessions = {str(number): session for number in range(12)}
    read = take_baselines(sessions, ChecksSection(), tmp_path, Deadline.after(60))
    assert list(read) == list(sessions)
    assert (readers.most, readers.measured) == (2, 12)
