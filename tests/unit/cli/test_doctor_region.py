"""What doctor says of a host whose guests' RAM lies in memory that was set aside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.cli import doctor_region
from harness.cli.doctor_region import examine_region
from harness.cli.finding import Level
from harness.core.errors import InfrastructureError, UpdateFailed
from harness.host.luo import abi, sessions
from harness.host.luo.abi import Abi
from harness.host.region import facts
from harness.host.region.enrolment import Enrolment
from tests.unit.host.region.test_facts import FIT
from tests.unit.updates.kernel.test_refusals import ARMED


@pytest.fixture
def found(monkeypatch):
    """What it finds on a host with changes."""

    def examine(uid=0, **changes):
        facts_now = replace(FIT, **changes)
        monkeypatch.setattr("os.geteuid", lambda: uid)
        monkeypatch.setattr(Enrolment, "enrolled", lambda here: facts_now.enrolled)
        monkeypatch.setattr(facts, "look", lambda here: facts_now)
        return list(examine_region())

    return examine


def test_a_host_that_is_fit_is_told_so(found):
    """Where the region is, and when a kexec was rehearsed."""
    region, kernel = found()
    assert (region.level, kernel.level) == (Level.OK, Level.OK)
    assert "1024 MiB at 0x140000000, mounted on /ram" in region.detail
    assert "2026-11-27" in kernel.detail
    assert "one that hangs waits for a person" in kernel.detail
    _, kernel = found(watchdogs=(ARMED, replace(ARMED, name="watchdog1", armed=False)))
    assert "one that hangs is reset by watchdog0 (iTCO_wdt), after 260 s" in kernel.detail
    assert "watchdog1" not in kernel.detail
    _, kernel = found(watchdogs=(replace(ARMED, outlasts=None),))
    assert "waits for a person, unless the driver of watchdog0 (iTCO_wdt)" in kernel.detail
    assert "watchdog.stop_on_reboot=0" in kernel.detail


def test_a_host_that_was_never_set_up_is_told_nothing(found):
    """It is no fault."""
    assert found(enrolled=None, secure_boot=True) == []


def test_what_is_missing_of_the_memory_is_a_problem_and_of_the_kernel_a_warning(found):
    """Guests live by the former; without the latter only the kernel is not replaced."""
    region, kernel = found(mounted=False, rehearsal=None)
    assert (region.name, region.level) == ("memory region", Level.PROBLEM)
    assert (kernel.name, kernel.level) == ("replacing the kernel", Level.WARNING)
    assert "--rehearse-kexec" in kernel.fix


def test_who_may_not_look_is_told_so(found):
    """The kernel hides addresses from anybody but root; nothing is claimed."""
    (one,) = found(uid=1000, mounted=False)
    assert (one.level, "for root to see" in one.detail) == (Level.WARNING, True)


def test_a_host_that_cannot_be_looked_at_is_a_problem(monkeypatch):
    """And no traceback."""

    def fail(here):
        raise InfrastructureError("/proc/iomem: no", hint="look")

    monkeypatch.setattr(Enrolment, "enrolled", fail)
    (one,) = examine_region()
    assert (one.level, one.fix) == (Level.PROBLEM, "look")


@pytest.fixture
def live(found, monkeypatch, tmp_path):
    """The same where the kernel has live update, and no region; ``words``: what its file says."""
    monkeypatch.setattr(sessions, "is_there", lambda: True)
    monkeypatch.setattr(doctor_region, "conclude", lambda line: None)

    def examine(words, **changes):
        def running():
            if isinstance(words, Exception):
                raise words
            return words

        monkeypatch.setattr(abi, "running", running)
        return found(enrolled=None, **changes)

    return examine


def test_live_update_is_told_in_the_words_of_the_kernel(live):
    """And what else keeps the kernel from being replaced."""
    whole = Abi({"kho": "kho-v4", "luo": "luo-v5", "memfd": "memfd-v2"})
    update, kernel = live(whole)
    assert (update.name, update.level, kernel.level) == ("live update", Level.OK, Level.OK)
    assert "hands memory over as kho-v4, luo-v5, memfd-v2" in update.detail
    update, kernel = live(Abi({}), rehearsal=None)
    assert (update.level, kernel.level) == (Level.WARNING, Level.WARNING)
    update, _ = live(UpdateFailed("no such file"))
    assert (update.level, "cannot be told: no such file" in update.detail) == (Level.WARNING, True)
    (update,) = live(whole, uid=1000)
    assert (update.level, "for root to see" in update.detail) == (Level.WARNING, True)
