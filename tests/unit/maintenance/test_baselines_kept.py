"""Baselines that outlive their boot: read in the time of the boot that judges by them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checks.evidence import Observed
from harness.core.errors import InfrastructureError
from harness.core.records import ClockReading
from harness.core.timebase import NS_PER_S
from harness.guest.kernel_log import KernelLog
from harness.host.protocol import ProcessIdentity
from harness.maintenance.baselines_kept import Boots, keep_baselines, read_baseline
from harness.maintenance.before_pause import Baseline
from harness.results.folder import RunFolder
from harness.results.journal import Line, Reading, entries

CLOCK = ClockReading(
    offset_s=0.001,
    uncertainty_s=0.002,
    monotonic_s=-100.0,
    monotonic_uncertainty_s=0.002,
    host_ahead_s=1_000.0,
)
BASELINE = Baseline(CLOCK, Observed("boot-of-guest", ProcessIdentity(3, 4)), KernelLog("mark"))


def reading(uncertainty_ns: int | None) -> Reading:
    """A boot of 500 s is left at time 2000 s; the next one arrives 30 s later, 20 s old."""
    left, arrived = entries.Leaving("6.12", "one"), entries.Arrived("two")
    arrived = replace(arrived, uncertainty_ns=uncertainty_ns)
    told: tuple[tuple[entries.Entry, int, int], ...] = ((left, 500, 2000), (arrived, 20, 2030))
    return Reading(
        tuple(
            Line(n, entry.event, entry, {}, "run", 1, boot_s * NS_PER_S, real_s * NS_PER_S)
            for n, (entry, boot_s, real_s) in enumerate(told, start=1)
        )
    )


@pytest.fixture
def folder(tmp_path):
    found = RunFolder(tmp_path)
    keep_baselines({"a": BASELINE}, found)
    return found


def test_what_was_paused_then_is_told_in_the_time_of_now():
    """Before this boot began: less than nothing."""
    boots = Boots.of(reading(1_000))
    assert boots.now_ns(500 * NS_PER_S) == -10 * NS_PER_S
    assert boots.uncertainty_ns == 1_000
    assert Boots.of(reading(None)).uncertainty_ns == NS_PER_S  # by the RTC
    assert Boots.of(Reading(reading(1).lines[:1])) is None


def test_a_baseline_is_read_in_the_time_of_this_boot(folder):
    """The guest's monotonic clock against this boot's, which is 510 s behind the other's."""
    found = read_baseline(folder, "a", Boots.of(reading(2_000_000)))
    assert found.clock.monotonic_s == pytest.approx(410.0)
    assert found.clock.monotonic_uncertainty_s == pytest.approx(0.004)
    assert found.clock.host_ahead_s == pytest.approx(1510.0)
    assert (found.clock.offset_s, found.clock.uncertainty_s) == (0.001, 0.002)
    assert (found.seen, found.kernel_log) == (BASELINE.seen, BASELINE.kernel_log)


def test_what_belongs_to_no_boot_is_not_believed(folder):
    """Of a journal that lost its lines."""
    found = read_baseline(folder, "a", None)
    assert (found.clock.monotonic_s, found.clock.host_ahead_s) == (None, None)
    assert found.clock.offset_s == 0.001


@pytest.mark.parametrize("text", ["", "{", "[]", '{"clock": 1}', '{"clock": {}}'])
def test_a_baseline_that_is_damaged_is_told(folder, text):
    """One guest's verdict is lost, and said so."""
    (folder.guest("a") / "baseline.json").write_text(text)
    with pytest.raises(InfrastructureError, match="baseline"):
        read_baseline(folder, "a", None)
    with pytest.raises(InfrastructureError, match="No such file"):
        read_baseline(folder, "b", None)
