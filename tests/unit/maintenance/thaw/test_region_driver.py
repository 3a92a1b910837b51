"""A kernel that has set the region aside, and has no driver for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import DeadlineExpired
from harness.core.timebase import Deadline
from harness.host.kernel import early
from harness.host.region.place import Region
from harness.maintenance.thaw import arrival
from harness.testing.clock import FakeClock
from harness.updates.kernel.plan import DAX

REGION = Region(1 << 32, 1 << 30)


def test_the_boot_is_held_up_for_no_longer_than_a_driver_takes(tmp_path, monkeypatch):
    """Guests wait where they are; whoever can look at the region later finds them there."""
    (tmp_path / "iomem").write_text("100000000-13fffffff : Persistent Memory (legacy)\n")
    monkeypatch.setattr(arrival, "IOMEM", tmp_path / "iomem")
    monkeypatch.setattr(arrival, "block_device", lambda region: None)
    monkeypatch.setattr(early, "mount", lambda *words: pytest.fail("there is nothing to mount"))
    clock = FakeClock()
    began_ns = clock.monotonic_ns()
    plan: Any = SimpleNamespace(
        resident=DAX,
        region_start=REGION.start,
        region_size=REGION.size,
        ram_folder=str(tmp_path / "ram"),
    )
    with pytest.raises(DeadlineExpired, match="waiting for the region"):
        arrival.mount_region(plan, Deadline.after(800, clock))
    assert clock.monotonic_ns() - began_ns < 30e9
