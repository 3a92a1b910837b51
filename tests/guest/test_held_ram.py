"""RAM without a name: a real guest is parked, and comes back with what a keeper holds.

It is what a kernel hands over by live update; here it stays in the same kernel. Requires: the
session's lab, whose RAM folder is in memory. Leaves behind: nothing.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.timebase import Deadline
from harness.host import ram_links
from harness.host.luo import held_ram
from harness.host.parking import NEW, OLD, Berth
from harness.updates.kernel.update import _lay_out
from harness.updates.qemu.eligibility import obstacles
from harness.updates.qemu.successor import successor
from harness.updates.qemu.update import parking_for
from tests.residents import EMULATOR, residents


@pytest.fixture
def there(lab, libvirt, tmp_path):
    """One guest whose QEMU can be replaced."""
    with residents(tmp_path, libvirt, 1) as found:
        yield found


def over(there, folder: Path, *, killed: bool = False) -> None:
    """Take its RAM's name, pause it, park it, and bring it back."""
    host, soon = there.libvirt, Deadline.after(120)
    look = there.look("res-1")
    parking = replace(parking_for(look), files=str(folder / "states"), lasting=True)
    path = Path(look.backings[0].path)
    if look.backings[0].links:
        assert look.process is not None
        own = held_ram.descriptor_of(look.process.pid, look.backings[0].identity)
        held_ram.take_name(path, own)
    file = os.open(os.readlink(path), os.O_RDWR | os.O_CLOEXEC)
    about = os.fstat(file)
    assert about.st_nlink == 0, "what a session takes"
    host.pause(look.uuid, soon)
    same = successor(look.description, EMULATOR, parking.commands)
    _lay_out(parking, {NEW: same, OLD: same})
    keeper = held_ram.Keeper({path.name: file}, about.st_uid, about.st_gid)
    os.close(file)
    ram_links.lay_held(Path(parking.keep), keeper.held, parking.ram)
    host.parking.park(parking, soon)
    assert host.parking.berth(parking, soon) is Berth.PARKED
    if killed:
        held_ram.dismiss(keeper.pid)
        keeper._process.wait()
        assert host.parking.berth(parking, soon) is Berth.LOST
        host.parking.settle(parking, soon)
        assert list(path.parents[1].glob("*-res-1")) == [], "a QEMU would try to open them for ever"
        return
    host.parking.unpark(parking, soon, new=True)
    host.resume(look.uuid, soon)
    host.parking.settle(parking, soon)
    assert keeper._process.wait(10) != 0, "nobody but its QEMU holds its RAM any more"


def test_a_guest_comes_back_by_what_another_process_holds(there, tmp_path):
    """Twice: the second time its RAM has no name from the start. To other kinds it has none."""
    before = there.look("res-1")
    assert obstacles(before) == ()
    for _ in range(2):
        over(there, tmp_path)
        after = there.look("res-1")
        there.assert_same("res-1")
        assert after.process != before.process
        (ram,) = after.backings
        assert (ram.identity, ram.mapped, ram.links) == (before.backings[0].identity, True, 0)
        assert os.readlink(ram.path).startswith(f"/proc/{after.process.pid}/fd/")
        assert [one.reason for one in obstacles(after, nameless=True)] == []
        assert ["has no name" in one.reason for one in obstacles(after)] == [True]
        keep = ram_links.keep_folder(Path(ram.path).parents[1], after.uuid)
        assert not keep.exists()
    over(there, tmp_path, killed=True)
    assert there.libvirt.guests(Deadline.after(20))
