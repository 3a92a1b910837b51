"""What keeps guests' RAM from one kernel to the next: by live update, in a session of the test."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core.errors import PlanError, UpdateFailed
from harness.host import ram_folder, ram_links
from harness.host.kernel import early
from harness.host.luo import held_ram
from harness.host.parking import ProcessIdentity
from harness.updates.kernel import preflight, stores
from harness.updates.kernel.plan import DAX, LUO
from harness.updates.kernel.stores import LiveUpdateStore, RegionStore, store
from harness.updates.qemu.update import parking_for
from tests.unit.updates.qemu.test_eligibility import GUEST

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a keeper is started as another user")


class FakeSession:
    """Notes what it is given, as the kernel would: a file without a name, or nothing."""

    made: list[FakeSession] = []

    def __init__(self, name: str) -> None:
        self.name, self.closed = name, False
        self.files: dict[int, int] = {}
        self.made.append(self)

    @classmethod
    def create(cls, name: str) -> FakeSession:
        return cls(name)

    def preserve(self, file: int, token: int) -> None:
        assert os.fstat(file).st_nlink == 0
        self.files[token] = os.stat(file).st_ino

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A guest whose QEMU is this process; its RAM is open here, as in a QEMU."""
    FakeSession.made = []
    monkeypatch.setattr(stores, "Session", FakeSession)
    monkeypatch.setattr(stores, "ON_DISK", tmp_path / "states")
    monkeypatch.setattr(ram_folder, "backing_folder", lambda: tmp_path)
    groups: list[tuple[str, int]] = []
    monkeypatch.setattr(early, "give_a_group", lambda *words: groups.append(words))
    instance = tmp_path / "3-web"
    instance.mkdir()
    path = instance / "pc.ram"
    path.write_bytes(bytes(8192))
    file = os.open(path, os.O_RDWR)
    (backing,) = GUEST.backings
    known = replace(
        backing, path=str(path), identity=ram_links.identity(os.fstat(file)), links=1, mapped=True
    )
    look = replace(GUEST, backings=(known,), process=ProcessIdentity(os.getpid(), 1))
    found = SimpleNamespace(
        look=look, path=path, file=file, groups=groups, parking=parking_for(look), folder=tmp_path
    )
    yield found
    for pid in held_ram.keepers(Path(found.parking.keep) / "ram"):
        held_ram.dismiss(pid)
    os.close(file)


def test_ram_is_preserved_while_its_guest_runs(here):
    """It has no name any more; its QEMU has it as before, and the plan says what it is."""
    luo = LiveUpdateStore()
    said = luo.begin("run-1", [here.look], [here.parking])
    (session,) = FakeSession.made
    (one,) = said["preserved"]
    assert (said["resident"], said["session"]) == (LUO, session.name)
    assert (one.uuid, one.name, one.token, one.size) == (GUEST.uuid, "pc.ram", 1, 8192)
    assert (one.user, one.group) == (os.geteuid(), os.getegid())
    assert session.files == {1: os.fstat(here.file).st_ino}
    assert os.readlink(here.path) == f"/proc/{os.getpid()}/fd/{here.file}"
    assert said["ram_options"].startswith(ram_folder.OPTIONS + ",size=")
    again = luo.begin("run-2", [here.look], [here.parking])  # of one that has no name by now
    assert session.closed
    assert again["session"] != said["session"]
    luo.end()
    luo.end()
    assert FakeSession.made[-1].closed


def test_ram_of_a_paused_guest_is_held_by_another_process(here):
    """It outlives the QEMU, and the run."""
    luo = LiveUpdateStore()
    luo.begin("run-1", [here.look], [here.parking])
    ram_links.make_keep(Path(here.parking.keep))
    luo.hold(here.parking)
    luo.end()
    (pid,) = held_ram.keepers(Path(here.parking.keep) / "ram")
    assert here.groups == [(GUEST.uuid, pid)]
    assert ram_links.held(Path(here.parking.keep), here.parking.ram)


def test_ram_that_is_another_file_by_now_is_not_preserved(here):
    """Nor is that of a guest without a QEMU that is seen."""
    with pytest.raises(UpdateFailed, match="cannot be seen"):
        LiveUpdateStore().begin("run-1", [replace(here.look, process=None)], [here.parking])
    here.path.unlink()
    with pytest.raises(UpdateFailed, match="No such file"):
        LiveUpdateStore().begin("run-1", [here.look], [here.parking])
    here.path.write_bytes(bytes(8192))
    with pytest.raises(UpdateFailed, match="not the RAM that it was"):
        LiveUpdateStore().begin("run-1", [here.look], [here.parking])


def test_guests_whose_ram_cannot_be_filled_are_refused(here, monkeypatch):
    """A session fills what a guest has never touched."""
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(preflight, "require_guests", lambda *words: asked.append(words))
    monkeypatch.setattr(ram_folder, "available_bytes", lambda: 1 << 30)
    look = replace(here.look, memory_bytes=3 << 30, used_bytes=(2 << 30) + 1)
    LiveUpdateStore().require_guests([look], [], "6.12")
    assert asked[0][-1] == here.folder  # where states are to be, as far as it is there
    with pytest.raises(PlanError, match="up to 1024 MiB, and this host has 1024 MiB") as refused:
        LiveUpdateStore().require_guests([replace(look, used_bytes=(2 << 30) - 1)], [], "6.12")
    assert refused.value.hint


def test_each_store_has_its_states_where_the_next_kernel_finds_them(here):
    """On the region, or on the disk."""
    assert store(DAX).states(here.parking) == here.folder / "harness-states" / GUEST.uuid
    assert store(LUO).states(here.parking) == here.folder / "states" / GUEST.uuid
    with pytest.raises(UpdateFailed, match="not looked at"):
        RegionStore().begin("run-1", [], [])
