"""Every reason is looked up and told at once, before a guest is paused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import PlanError
from harness.core.timebase import Deadline
from harness.host import ram_folder
from harness.host.lifecycle import GuestState
from harness.host.luo import facts as luo_facts
from harness.host.region import facts, rehearsal
from harness.testing.hypervisor import FakeHypervisor
from harness.updates.kernel import belongings, candidate, preflight
from harness.updates.kernel.belongings import lacks_by_live_update
from harness.updates.kernel.preflight import require_guests, require_kernel, require_live_update
from tests.unit.host.region.test_facts import FIT, LINE
from tests.unit.updates.kernel.test_refusals import (
    INITRD,
    KERNEL,
    LUO,
    LUO_NEW,
    NEW,
    NO_REGION,
    SILENT_S,
)
from tests.unit.updates.qemu.test_eligibility import GUEST, backed

ON_REGION = replace(backed(file_system="dax"), uuid="uuid-web1")
RAM = Path("/ram")


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A host that is fit, with that kernel installed."""
    modules = tmp_path / "modules"
    modules.write_text("kvm_amd 1 0 - Live 0x0\n")
    monkeypatch.setattr(preflight, "_LOADED_MODULES", modules)
    monkeypatch.setattr(facts, "look", lambda: FIT)
    monkeypatch.setattr(candidate, "look", lambda release, kernel, initrd, line: NEW)
    monkeypatch.setattr(ram_folder, "free_bytes", lambda folder: 1 << 30)
    return monkeypatch


def guests(**states: GuestState):
    known = FakeHypervisor(states).guests(Deadline.after(5))
    return [replace(one, uuid=f"uuid-{one.name}") for one in known]


def test_a_kernel_that_fits_is_let_through(host):
    """With the region that is to be found again."""
    assert require_kernel("6.12", KERNEL, INITRD, LINE, SILENT_S) == FIT.enrolled


def test_all_that_is_wrong_with_a_kernel_is_told_at_once(host):
    """Each with its fix."""
    bad = replace(NEW, command_line="root=/dev/vda", modules=frozenset({"nd_pmem", "nd_e820"}))
    host.setattr(candidate, "look", lambda *words: bad)
    with pytest.raises(PlanError) as told:
        require_kernel("6.12", KERNEL, INITRD, "root=/dev/vda", SILENT_S)
    for words in ("take the RAM of guests for its own", "no module kvm_amd", "(fix: add memmap="):
        assert words in told.value.message


def test_guests_that_can_be_handed_over_are_let_through(host):
    """One that is shut off does not matter."""
    require_guests(
        [ON_REGION], guests(web1=GuestState.RUNNING, off=GuestState.SHUT_OFF), RAM, "6.12"
    )


def test_all_that_is_wrong_with_guests_is_told_at_once(host):
    """Of each guest, of those that are not in the run (a paused one ends as well), of the room."""
    host.setattr(ram_folder, "free_bytes", lambda folder: 0)
    tmpfs = replace(GUEST, uuid="uuid-web1")
    there = guests(web1=GuestState.RUNNING, db=GuestState.PAUSED)
    with pytest.raises(PlanError) as told:
        require_guests([tmpfs], there, RAM, "6.12")
    for words in (
        "web1: its RAM",
        "would end with this kernel",
        "db is not in the run",
        "MiB left",
    ):
        assert words in told.value.message


def test_what_keeps_a_guest_from_another_qemu_keeps_it_from_another_kernel(host):
    """A device of the host, above all."""
    device = "<devices><hostdev mode='subsystem' type='pci'/>"
    passed = replace(ON_REGION, description=GUEST.description.replace("<devices>", device))
    with pytest.raises(PlanError, match=r"web1: it has a device of the host \(hostdev\)"):
        require_guests([passed], guests(web1=GuestState.RUNNING), RAM, "6.12")
    assert belongings.lacks_of_guest(passed, RAM) == ()


def test_a_kernel_for_live_update_is_judged_without_a_region(host, tmp_path):
    """A rehearsal that has come up is noted first: there is no unit that does it."""
    noted: list[str] = []
    line = tmp_path / "cmdline"
    line.write_text("harness.rehearsal=1")
    host.setattr(preflight, "_CMDLINE", line)
    host.setattr(rehearsal, "conclude", noted.append)
    host.setattr(facts, "look", lambda: NO_REGION)
    host.setattr(luo_facts, "look", lambda kernel: LUO)
    host.setattr(candidate, "look", lambda *words: LUO_NEW)
    require_live_update("6.12", KERNEL, INITRD, LUO_NEW.command_line, SILENT_S)
    assert noted == ["harness.rehearsal=1"]
    host.setattr(luo_facts, "look", lambda kernel: replace(LUO, device=False))
    with pytest.raises(PlanError, match="has no /dev/liveupdate"):
        require_live_update("6.12", KERNEL, INITRD, LUO_NEW.command_line, SILENT_S)


def test_a_guest_whose_ram_has_no_name_is_let_through_where_that_is_the_way(host):
    """And nowhere else."""
    without_name = replace(backed(links=0, file_system="tmpfs"), uuid="uuid-web1")
    on_host = guests(web1=GuestState.RUNNING)
    folder = Path(without_name.backings[0].path).parents[1]
    words = ([without_name], on_host, folder, "6.12", lacks_by_live_update)
    require_guests(*words, Path("/var/lib"))
    with pytest.raises(PlanError, match="has no name that could be kept"):
        require_guests(*words)


def test_a_guest_that_uses_more_than_an_older_kernel_has_is_not_handed_to_it(host):
    """QEMU would refuse its state there, when it is parked; the kernel that has it takes it."""
    newer = replace(ON_REGION, vhost=frozenset({"VIRTIO_F_RING_RESET"}))
    there = guests(web1=GuestState.RUNNING)
    require_guests([newer], there, RAM, "6.12.95+deb12-cloud-amd64")
    require_guests([ON_REGION], there, RAM, "6.1.0-56-cloud-amd64")
    with pytest.raises(PlanError) as told:
        require_guests([newer], there, RAM, "6.1.0-56-cloud-amd64")
    for words in (
        "web1: a NIC of it uses VIRTIO_F_RING_RESET, which vhost has since Linux 6.2",
        "under 6.1.0-56-cloud-amd64 QEMU would refuse its state",
        "(fix: a kernel from 6.2 on",
    ):
        assert words in told.value.message
