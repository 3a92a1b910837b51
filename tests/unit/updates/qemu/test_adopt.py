"""Kind ``adopt`` on a host in memory: what is planned, refused, applied and proven."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.core.errors import ConfigError, HypervisorError, NotNeeded, PlanError, UpdateFailed
from harness.core.settings import Scope
from harness.host import copy_rate, ram_folder
from harness.host.lifecycle import GuestState
from harness.host.parking import NEW, OLD, ProcessIdentity
from harness.testing.hypervisor import FakeHypervisor
from harness.testing.parking import OLD_VERSION, eligible
from harness.updates.protocol import GuestUpdate, HostUpdate, Site, UpdateContext
from harness.updates.qemu import adopt, swapping
from harness.updates.qemu.adopt import AdoptUpdate
from harness.updates.qemu.eligibility import obstacles
from harness.updates.qemu.room import Extent, expected_s, largest, room, start_s
from harness.updates.qemu.settings import AdoptSettings
from harness.updates.qemu.successor import keepable, shared
from tests.unit.updates.qemu.test_update import Swaps, qemu, soon

MIB = 1 << 20
PRIVATE = "<domain><name>{name}</name><devices><emulator>{qemu}</emulator></devices></domain>"
SIZES = {"memory_bytes": 512 * MIB, "used_bytes": 200 * MIB}


class Adopting(Swaps):
    """A guest that was swapped has its RAM in a file."""

    def swap(self, parking, deadline):
        super().swap(parking, deadline)
        self.host.parking.looks[parking.name] = {}


class Bench:
    """Two guests whose RAM is private, and 2 GiB free in the folder."""

    def __init__(self, folder: Path, monkeypatch, **settings) -> None:
        self.folder = folder
        self.own = qemu(folder / "old", OLD_VERSION)
        self.host = FakeHypervisor({"a": GuestState.RUNNING, "b": GuestState.RUNNING})
        self.process = ProcessIdentity(7, 1)
        for name in ("a", "b"):
            text = PRIVATE.format(name=name, qemu=self.own)
            seen = {"description": text, "backings": (), "process": self.process, **SIZES}
            self.host.parking.looks[name] = seen
        self.free, self.available = 2048 * MIB, 8192 * MIB
        monkeypatch.setattr(ram_folder, "free_bytes", lambda path: self.free)
        monkeypatch.setattr(ram_folder, "available_bytes", lambda: self.available)
        monkeypatch.setattr(swapping, "lay_out", lambda parking, texts: None)
        monkeypatch.setattr(adopt, "copy_rate", lambda: 100.0 * MIB)
        monkeypatch.setattr(adopt, "require_this_host", lambda kind, site: None)
        monkeypatch.setattr(adopt, "file_system", lambda path: "tmpfs")
        monkeypatch.setattr(ram_folder, "backing_folder", lambda: Path("/ram"))
        self.update = AdoptUpdate(AdoptSettings(**settings), Site())
        self.swap = Adopting(self.host)

    def context(self, *names: str) -> UpdateContext:
        return UpdateContext("run", self.folder, "0", names, self.folder, 30.0, self.swap)

    def examine(self):
        self.update.check()
        self.update.examine(self.host.guests(soon()), self.host, soon())


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


def test_it_is_an_update_of_guests(bench):
    """What the plan and the window ask for it by."""
    update: HostUpdate = bench.update
    assert isinstance(bench.update, GuestUpdate)
    assert (update.scope, update.preserves_memory) == (Scope.GUEST, True)
    with pytest.raises(ConfigError, match="scope of kind adopt is guest"):
        AdoptUpdate(AdoptSettings(scope=Scope.HOST))


def test_how_long_and_how_much_is_said_beforehand(bench):
    """Of each guest, by its own size."""
    bench.examine()
    told = bench.update.warnings[0]
    assert told.startswith("a: paused for about 9.1 s (512 MiB of RAM, 200 MiB in use")
    assert "takes 776 MiB of /ram while it is copied (2048 MiB free)" in told
    assert bench.update.expected_s == pytest.approx(9.12)
    assert "measured now" in bench.update.expected_from


def test_a_rate_that_is_given_is_not_measured(tmp_path, monkeypatch):
    """And is said to be that."""
    bench = Bench(tmp_path, monkeypatch, rate_mib_s=712.0)
    monkeypatch.setattr(adopt, "copy_rate", None)
    bench.examine()
    assert bench.update.expected_s == pytest.approx(3.0)
    assert "update.rate_mib_s" in bench.update.expected_from


def test_the_ram_of_all_must_fit_and_that_of_the_largest_once_more(bench):
    """Found when it is planned, with both figures."""
    bench.free = 1200 * MIB
    with pytest.raises(PlanError, match="/ram has 1200 MiB free; 1288 MiB are needed") as caught:
        bench.examine()
    assert "remount,size=" in caught.value.hint
    bench.free = 1288 * MIB
    bench.examine()


def test_without_memory_it_is_refused(bench):
    """The host would kill something for it."""
    bench.free, bench.available = None, 800 * MIB
    with pytest.raises(PlanError, match="has 800 MiB of memory left; 888 MiB more are needed"):
        bench.examine()
    bench.available = 888 * MIB
    bench.examine()


def test_guests_that_are_copied_at_once_need_room_at_once(bench):
    """Found before they are paused: the plan knows no update domains."""
    bench.free = 1300 * MIB
    bench.examine()
    bench.update.prepare(bench.context("a"), soon())
    with pytest.raises(UpdateFailed, match="1300 MiB free; 1552 MiB are needed"):
        bench.update.prepare(bench.context("a", "b"), soon())


def test_each_guest_is_restored_by_its_own_description(bench):
    """In the same QEMU, either with shared RAM or as it was; and how is written down."""
    bench.free = None
    bench.examine()
    context = bench.context("a", "b")
    bench.update.prepare(context, soon())
    (first, _) = bench.swap.prepared
    assert first.parking.copied
    assert first.parking.process == bench.process
    assert first.parking.state == "/ram/harness-keep/uuid-a/state"
    assert first.parking.start_s == pytest.approx(3 * 2 * 6.12)
    assert first.versions == {"old": OLD_VERSION, "new": OLD_VERSION}
    texts = bench.update._texts["a"]
    assert '<access mode="shared" />' in texts[NEW]
    assert "memoryBacking" not in texts[OLD]
    bench.update.apply(context, soon())
    assert sorted(bench.swap.swapped) == ["a", "b"]
    bench.update.verify(context, soon())


def test_a_guest_that_is_not_such_afterwards_is_a_failure(bench):
    """Whatever libvirt made of its description."""
    bench.examine()
    with pytest.raises(
        UpdateFailed, match="a is not eligible for a replacement of its QEMU: its RAM"
    ):
        bench.update.verify(bench.context("a"), soon())


def test_what_a_persistent_guest_is_booted_by_is_changed_too(bench, tmp_path, monkeypatch):
    """Unless that is to stay."""
    bench.host.parking.definitions["a"] = PRIVATE.format(name="a", qemu="/q")
    for definition in (False, True):
        one = Bench(tmp_path, monkeypatch, definition=definition)
        one.host.parking.definitions["a"] = PRIVATE.format(name="a", qemu="/q")
        one.free = None
        one.examine()
        one.host.parking.looks["a"] = {}
        one.update.verify(one.context("a"), soon())
        assert ('<source type="file" />' in one.host.parking.definitions["a"]) is definition


def test_a_definition_that_cannot_be_changed_is_said(bench):
    """The guest is adopted all the same."""
    bench.free = None
    bench.examine()
    bench.host.parking.looks["a"] = {}
    bench.host.parking.definitions["a"] = PRIVATE.format(name="a", qemu="/q")

    def no() -> None:
        raise HypervisorError("read only", operation="defining")

    bench.host.before["definition", "a"] = no
    with pytest.raises(UpdateFailed, match="until its next cold boot only.*read only"):
        bench.update.verify(bench.context("a"), soon())


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"description": None, "backings": None}, "can be replaced already"),
        ({"jobs": ("vda",)}, "block job"),
        ({"version": "6.1.0"}, "not here any more"),
    ],
)
def test_who_cannot_be_adopted_is_told_why(bench, seen, why):
    """Before anybody is paused."""
    own = eligible("a", "uuid-a")
    plain = {"description": own.description, "backings": own.backings}
    given = {key: plain[key] if value is None else value for key, value in seen.items()}
    bench.host.parking.looks["a"].update(given)
    with pytest.raises(PlanError, match=f"1 of 2 guests cannot be adopted: a: .*{why}"):
        bench.examine()


def test_where_all_can_be_replaced_already_there_is_nothing_to_do(bench):
    """Of one it is a refusal: the others were not looked after."""
    own = eligible("a", "uuid-a")
    for name, refused in (("a", PlanError), ("b", NotNeeded)):
        given = {"description": own.description, "backings": own.backings}
        bench.host.parking.looks[name].update(given)
        with pytest.raises(PlanError, match="can be replaced already") as told:
            bench.examine()
        assert type(told.value) is refused


def test_a_folder_on_a_disk_is_refused(bench, monkeypatch):
    """With the line that fixes it."""
    monkeypatch.setattr(adopt, "file_system", lambda path: "ext4")
    with pytest.raises(PlanError, match="on ext4, not in memory") as caught:
        bench.update.check()
    assert "tmpfs /ram tmpfs" in caught.value.hint


def test_ram_on_a_region_takes_nothing_of_the_hosts_memory(bench, monkeypatch):
    """It was set aside at boot: its own room matters, and the host's memory does not."""
    bench.available = MIB
    with pytest.raises(PlanError, match="1 MiB of memory left"):
        bench.examine()
    monkeypatch.setattr(adopt, "file_system", lambda path: "dax")
    bench.examine()
    bench.free = 3 * MIB
    with pytest.raises(PlanError, match="3 MiB free") as told:
        bench.examine()
    assert "setup-host --region" in told.value.hint


def test_nobody_is_saved_after_it_was_abandoned(bench):
    """The resume has begun."""
    bench.free = None
    bench.examine()
    bench.update.prepare(bench.context("a"), soon())
    bench.update.abandon()
    with pytest.raises(UpdateFailed, match="abandoned before it was saved"):
        bench.update.apply(bench.context("a"), soon())
    assert bench.swap.swapped == []


def test_what_is_copied_grows_with_what_is_used_and_what_there_is():
    """A guest that uses all of its RAM is written and read in whole."""
    idle, busy = Extent(1000 * MIB, 10 * MIB), Extent(1000 * MIB, 2000 * MIB)
    rate = 100.0 * MIB
    assert expected_s([idle], rate) == pytest.approx(2 + 0.1 + 10)
    assert expected_s([busy], rate) == pytest.approx(2 + 10 + 10)
    assert start_s([idle, busy], rate) == pytest.approx(22)
    assert largest([idle, busy], 3) == [busy, idle, busy]
    assert largest([], 2) == []
    assert room([busy], [busy]).folder == 2064 * MIB
    assert room([busy], [busy]).memory == 1064 * MIB


def test_the_description_is_changed_in_one_place_only():
    """What it has of memory backing beside that stays."""
    text = "<domain><memoryBacking><locked/><source type='anonymous'/></memoryBacking></domain>"
    live, lasting = (ElementTree.fromstring(one(text)) for one in (shared, keepable))
    for found in (live, lasting):
        assert found.find("memoryBacking/access").get("mode") == "shared"
        assert found.find("memoryBacking/locked") is not None
    assert live.find("memoryBacking/source").get("type") == "anonymous"
    assert lasting.find("memoryBacking/source").get("type") == "file"


def test_the_rate_of_this_host_is_measured():
    """By a copy of that size, and no file is left."""
    assert copy_rate.copy_rate(size=4 * MIB) > 0


def test_what_is_free_is_asked_of_the_kernel(tmp_path):
    """Of the file system, and of the host."""
    assert ram_folder.free_bytes(tmp_path) > 0
    assert ram_folder.available_bytes() > 0
    (tmp_path / "meminfo").write_text("MemTotal: 5 kB\n")
    with pytest.raises(OSError, match="MemAvailable"):
        ram_folder.available_bytes(tmp_path / "meminfo")


def test_a_numa_cell_that_says_how_it_is_mapped_is_not_adopted():
    """That goes before what is said of the whole."""
    look = eligible("a", "uuid-a")
    text = "<domain><cpu><numa><cell memAccess='private'/></numa></cpu></domain>"
    (found,) = obstacles(replace(look, description=text, backings=()))
    assert not found.adoptable
    assert "memAccess" in found.fix
