"""What is watched in a Windows guest, and what is skipped there; the guest is a stand-in."""

from __future__ import annotations

import pytest

from harness.checks.connections import judge as connections
from harness.checks.evidence import Missing
from harness.checks.guest_life import Life
from harness.checks.mounts import judge as mounts
from harness.checks.probes import PROBES, probes_for
from harness.checks.probes.group import GuestProbes
from harness.checks.probes.protocol import Scene
from harness.checks.processes import judge as processes
from harness.core.records import Outcome
from harness.core.settings import ChecksSection
from harness.core.timebase import Deadline
from harness.guest.facts import GuestOs, gather
from harness.testing.evidence import GOOD
from harness.testing.windows import Windows, WindowsShell


def soon() -> Deadline:
    return Deadline.after(30)


@pytest.fixture
def guest() -> Windows:
    return Windows()


@pytest.fixture
def watch(guest, tmp_path):
    """``watch(check, …)``: probes of these checks, in the guest; let go afterwards."""
    opened = []

    def watch(*checks: str) -> GuestProbes:
        shell = WindowsShell(guest)
        scene = Scene(
            name="win1",
            uuid="uuid-win1",
            address="127.0.0.1",
            remote=shell,
            facts=gather(shell, soon()),
            process=None,
            settings=ChecksSection(),
            folder=tmp_path,
        )
        opened.append(GuestProbes(scene, probes_for(checks)))
        opened[-1].start(None, soon())
        opened[-1].mark(soon())
        return opened[-1]

    yield watch
    for one in opened:
        one.close()


def evidence(told):
    return GOOD.__class__(**{**vars(GOOD), "testimony": told})


def test_what_lives_there_is_watched(watch, guest):
    """A long-running process that is gone is one; a young one is none."""
    told = watch("processes").stop(soon())
    assert processes(evidence(told)).outcome is Outcome.PASS
    assert mounts(evidence(told)).outcome is Outcome.PASS
    assert connections(evidence(told)).outcome is Outcome.PASS
    probes = watch("processes")
    gone = next(key for key, name in guest.processes.items() if name == "sqlservr.exe")
    del guest.processes[gone]
    record = processes(evidence(probes.stop(soon())))
    assert (record.outcome, record.detail) == (Outcome.FAIL, "sqlservr.exe (pid 2020)")


@pytest.mark.parametrize("check", ["canary", "disk", "timers", "tcp-session"])
def test_what_nothing_can_watch_there_is_skipped_with_the_reason(watch, check, guest):
    """Known before the pause, so no error; and no program for Linux is sent there."""
    told = watch(check).stop(soon())
    gaps = [one for kind, one in told.items() if isinstance(one, Missing) and kind is not Life]
    assert any(gap.reason == "nothing can watch for it in a Windows guest yet" for gap in gaps)
    assert all(gap.known_before for gap in gaps)
    assert len(guest.asked) == 1  # its facts


def test_a_probe_is_for_linux_unless_it_says_otherwise():
    """So one that is added later is skipped in Windows, and not run there by accident."""
    assert {one.__name__ for one in PROBES if GuestOs.WINDOWS in one.serves} == {
        "ResidencyProbe",
        "VcpuProbe",
        "DowntimeProbe",
        "LifeProbe",
        "OwnProbe",
    }
