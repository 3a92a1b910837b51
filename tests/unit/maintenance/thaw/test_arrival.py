"""Another boot takes over: the region is looked at first, and what is written says where all is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.core.identity import boot_id
from harness.host.kernel import magic
from harness.host.region.place import PERSISTENT, Region
from harness.maintenance.pause.parkable import parkable
from harness.maintenance.thaw import arrival
from harness.results.journal import Custody, Journal, Member, entries, fold
from harness.updates.kernel.plan import ThawPlan
from tests.unit.updates.kernel.test_plan import GUEST, PLAN

REGION = Region(PLAN.region_start, PLAN.region_size)
OF_IT = (GUEST.name, GUEST.uuid)


@pytest.fixture
def plan(tmp_path, monkeypatch) -> ThawPlan:
    """A plan whose region is a folder here, which this kernel is said to have set aside."""
    folder = tmp_path / "ram"
    folder.mkdir()
    iomem = tmp_path / "iomem"
    iomem.write_text(f"{REGION.start:x}-{REGION.end - 1:x} : {PERSISTENT}\n")
    monkeypatch.setattr(arrival, "IOMEM", iomem)
    monkeypatch.setattr(Path, "is_mount", lambda path: path == folder)
    found = replace(PLAN, ram_folder=str(folder), magic=magic.new_magic(PLAN.run_id))
    magic.write(folder, found.magic)
    return found


@pytest.fixture
def journal(tmp_path, plan):
    """Of a run that has left another boot."""
    with Journal(tmp_path, plan.run_id) as found:
        found.intend(entries.RunStarted(boot_id="another"))
        found.intend(parkable(GUEST, {"new": "qemu"}, {"new": "7.2"}))
        found.intend(entries.Pausing((Member(*OF_IT),)))
        found.intend(entries.Parked(*OF_IT))
        found.intend(entries.HandingOver(*OF_IT))
        found.intend(entries.Leaving("6.12", "another"))
        yield found


def test_who_was_handed_over_is_awaited_by_another_boot_only(journal):
    """And no more when that has taken over, or the run is over."""
    history = fold(journal.read())
    assert arrival.is_awaited(history)
    assert not arrival.is_awaited(replace(history, left=None))
    assert not arrival.is_awaited(replace(history, ended=True))
    here = replace(history.started, boot_id=boot_id())
    assert not arrival.is_awaited(replace(history, started=here))


def test_where_the_files_are_by_now_is_written(plan, journal):
    """The number of the device is this boot's, the inode the file system's."""
    history = arrival.arrive(plan, journal, "thaw", (-5, 7))
    assert (history.boot_id, history.arrived.problem) == (boot_id(), "")
    assert (history.arrived.moved_ns, history.arrived.uncertainty_ns) == (-5, 7)
    (guest,) = history.guests.values()
    assert guest.parkable.ram == {"pc.ram": f"{os.stat(plan.ram_folder).st_dev}:7"}
    assert guest.parkable.versions == {"new": "7.2"}
    assert [one.name for one in history.held] == [GUEST.name]
    assert not arrival.is_awaited(history)


def test_a_page_that_was_overwritten_brings_nobody_back(plan, journal):
    """It is written why, and the guest has ended."""
    page = Path(plan.ram_folder, magic.NAME)
    page.write_bytes(b"x" + page.read_bytes()[1:])
    history = arrival.arrive(plan, journal, "thaw")
    assert "another kernel used this memory" in history.arrived.problem
    (guest,) = history.guests.values()
    assert (guest.custody, history.held) == (Custody.ENDED, ())


def test_a_kernel_that_has_not_set_the_region_aside_brings_nobody_back(plan, journal):
    """Whatever is mounted there."""
    arrival.IOMEM.write_text(f"{REGION.start:x}-{REGION.end - 1:x} : System RAM\n")
    history = arrival.arrive(plan, journal, "recover")
    assert "has not set aside" in history.arrived.problem
    assert history.held == ()


def test_a_region_that_is_not_mounted_yet_is_no_verdict(plan, journal, monkeypatch):
    """Nothing is written, so that who comes later finds the guests."""
    monkeypatch.setattr(Path, "is_mount", lambda path: False)
    before = len(journal.read().lines)
    with pytest.raises(InfrastructureError, match="is not mounted"):
        arrival.arrive(plan, journal, "thaw")
    assert len(journal.read().lines) == before
    assert arrival.is_awaited(fold(journal.read()))


def test_a_guest_whose_line_is_lost_is_in_the_plan(plan, tmp_path):
    """The journal is damaged; what brings it back is written once more."""
    folder = tmp_path / "other"
    folder.mkdir()
    with Journal(folder, plan.run_id) as journal:
        journal.intend(entries.RunStarted(boot_id="another"))
        journal.intend(entries.Pausing((Member(*OF_IT),)))
        journal.intend(entries.HandingOver(*OF_IT))
        journal.intend(entries.Leaving("6.12", "another"))
        history = arrival.arrive(plan, journal, "thaw")
    assert list(history.parkable) == [GUEST.uuid]
