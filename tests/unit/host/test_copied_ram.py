"""Parking a guest with its RAM in its state, on a libvirt in memory.

That libvirt and QEMU do what is asked here is shown on real guests (tests/drills/test_adopt.py).
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from harness.core.errors import GuestNotFound, HypervisorError, InfrastructureError
from harness.host import copied_ram, parker
from harness.host.parking import Berth, ProcessIdentity
from tests.unit.host.test_parker import UUID, Bench, lost, soon


@pytest.fixture(params=[False, True], ids=["transient", "persistent"])
def bench(request, tmp_path, monkeypatch):
    found = Bench(tmp_path, monkeypatch, persistent=request.param)
    old = found.world.process(UUID)
    found.parking = replace(found.parking, ram={}, copied=True, process=old)
    monkeypatch.setattr(copied_ram, "MANAGED", found.world.saves)
    monkeypatch.setattr(copied_ram, "_COMPLETE", b"state")
    monkeypatch.setattr(copied_ram, "was_restored", lambda process: process.pid == 8)
    return found


def link(bench) -> Path:
    return bench.world.saves / "web1.save"


def test_a_guest_comes_back_by_its_state_in_memory(bench):
    """By anybody's start, if it is persistent; in the end nothing is left of that."""
    bench.subject.park(bench.parking, soon())
    assert bench.berth() is Berth.PARKED
    assert Path(bench.parking.state).parent == bench.keep
    if bench.parking.persistent:
        assert os.readlink(link(bench)) == bench.parking.state
    found = bench.subject.unpark(bench.parking, soon(), new=True)
    assert found.process == ProcessIdentity(8, 1)
    assert bench.berth() is Berth.AFLOAT
    assert not Path(bench.parking.state).exists()
    assert not os.path.lexists(link(bench))
    expected = {
        False: ["save NEW", "restore NEW"],
        True: ["managed save", "define NEW", "define NEW", "create"],
    }
    assert bench.world.did == expected[bench.parking.persistent]
    assert not bench.commands.parent.exists()
    bench.subject.settle(bench.parking, soon())
    assert bench.folders() == ["8-web1"]


def test_one_that_refuses_leaves_the_state_for_the_other(bench):
    """The guest is as it was, in the end."""
    bench.subject.park(bench.parking, soon())
    bench.world.refuses = [lost(libvirt.VIR_ERR_INTERNAL_ERROR)]
    with pytest.raises(HypervisorError, match="refused"):
        bench.subject.unpark(bench.parking, soon(), new=True)
    assert bench.berth() is Berth.PARKED
    bench.world.next_id = 8
    bench.subject.unpark(bench.parking, soon(), new=False)
    assert [did for did in bench.world.did if "OLD" in did]


def test_a_start_that_is_ended_can_be_tried_again(bench):
    """The state is there until a QEMU has the RAM."""
    bench.subject.park(bench.parking, soon())
    bench.world.start()
    bench.world.managed = False
    bench.subject.end_start(bench.parking, soon())
    assert bench.world.did[-1] == "destroy"
    assert bench.berth() is Berth.PARKED
    bench.world.next_id = 8
    bench.subject.unpark(bench.parking, soon(), new=False)
    assert bench.berth() is Berth.AFLOAT


def test_half_a_state_is_none(bench):
    """libvirt says last that it is complete: no guest is started by less."""
    bench.subject.park(bench.parking, soon())
    Path(bench.parking.state).write_text("part")
    bench.world.managed = False
    assert bench.berth() is Berth.LOST
    with pytest.raises(GuestNotFound, match="RAM is not kept"):
        bench.subject.unpark(bench.parking, soon(), new=False)
    assert "restore OLD" not in bench.world.did


def test_a_guest_that_was_booted_by_somebody_has_other_ram(bench):
    """It is not taken for the one that was saved."""
    bench.subject.park(bench.parking, soon())
    bench.world.next_id = 9
    bench.world.start()
    assert bench.berth() is Berth.ADRIFT


def test_a_save_that_is_under_way_is_ended_before_a_guest_is_let_run(bench):
    """A dead run has left it to libvirt; the guest is in its QEMU still."""
    bench.world.job = libvirt.VIR_DOMAIN_JOB_UNBOUNDED
    assert bench.berth() is Berth.AFLOAT
    bench.subject.unpark(bench.parking, soon(), new=False)
    assert bench.world.did == ["abort"]


def test_libvirt_refuses_to_save(bench, monkeypatch):
    """No way to a state is left that is not there."""

    def no(self, *given):
        raise lost(libvirt.VIR_ERR_OPERATION_FAILED)

    for name in ("managedSave", "saveFlags"):
        monkeypatch.setattr(f"tests.unit.host.test_parker.Domain.{name}", no)
    with pytest.raises(HypervisorError, match="refused"):
        bench.subject.park(bench.parking, soon())
    assert not os.path.lexists(link(bench))
    assert bench.berth() is Berth.AFLOAT


def test_a_managed_save_of_somebody_else_is_left_alone(bench):
    """It is a file of its own, or leads elsewhere."""
    link(bench).write_text("theirs")
    copied_ram.withdraw(bench.parking)
    assert link(bench).read_text() == "theirs"
    if bench.parking.persistent:
        with pytest.raises(InfrastructureError, match="web1.save"):
            bench.subject.park(bench.parking, soon())
        assert bench.world.runs


def test_what_a_guest_is_booted_by_is_read_and_changed(bench):
    """A transient one has nothing of that kind."""
    found = bench.subject.definition(UUID, soon())
    assert found == (f"XML {parker._DEFINITION}" if bench.parking.persistent else None)
    bench.subject.define("<domain/>", soon())
    assert bench.world.did == ["definition <domain/>"]
