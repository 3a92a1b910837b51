"""Kind ``qemu`` on a host in memory: what is planned, refused, applied and proven."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import (
    ConfigError,
    HypervisorError,
    InfrastructureError,
    MissingCapability,
    NotNeeded,
    PlanError,
    UpdateFailed,
)
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.host import ram_links
from harness.host.lifecycle import GuestState
from harness.testing.hypervisor import FakeHypervisor
from harness.testing.parking import NEW_VERSION, OLD_VERSION, eligible
from harness.updates.protocol import GuestUpdate, HostUpdate, Site, UpdateContext
from harness.updates.qemu.settings import QemuSettings
from harness.updates.qemu.swapping import lay_out
from harness.updates.qemu.update import QemuUpdate, parking_for


def qemu(folder: Path, version: str, name: str = "qemu-system-x86_64") -> Path:
    """A program that says it is QEMU of ``version``."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version}'\n")
    file.chmod(0o755)
    return file


class Swaps:
    """A window's swap that notes what it was asked for."""

    def __init__(self, host: FakeHypervisor) -> None:
        self.host = host
        self.prepared: list[Any] = []
        self.swapped: list[str] = []
        self.refused: dict[str, Exception] = {}

    def prepare(self, plans):
        self.prepared = list(plans)

    def quiesce(self, deadline):
        pass

    def swap(self, parking, deadline):
        self.swapped.append(parking.name)
        if parking.name in self.refused:
            raise self.refused[parking.name]
        self.host.parking.runs_new.add(parking.name)

    def hand_over(self, parkings, kernel, deadline):
        raise AssertionError("no kernel is to be left")


class Bench:
    """Two guests in the old QEMU, and the new one as the emulator of both."""

    def __init__(self, folder: Path, monkeypatch, **settings) -> None:
        self.folder = folder
        self.old, self.new = qemu(folder / "old", OLD_VERSION), qemu(folder / "new", NEW_VERSION)
        self.host = FakeHypervisor({"a": GuestState.RUNNING, "b": GuestState.RUNNING})
        for name in ("a", "b"):
            described = self.host.parking.look(f"uuid-{name}", soon()).description
            described = described.replace("/usr/bin/qemu-system-x86_64", str(self.old))
            self.host.parking.looks[name] = {"description": described}
        self.update = QemuUpdate(
            QemuSettings(**{"emulator": self.new, **settings}), Site(), cores=2
        )
        self.swap = Swaps(self.host)
        self.laid_out: list[Any] = []
        monkeypatch.setattr(
            "harness.updates.qemu.swapping.lay_out",
            lambda parking, texts: self.laid_out.append((parking.name, texts)),
        )

    @property
    def context(self) -> UpdateContext:
        return UpdateContext("run", self.folder, "0", ("a", "b"), self.folder, 30.0, self.swap)

    def examine(self):
        self.update.examine(self.host.guests(soon()), self.host, soon())

    def prepare(self):
        self.examine()
        self.update.prepare(self.context, soon())


def soon() -> Deadline:
    return Deadline.after(20)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


def test_it_is_an_update_of_guests(bench):
    """What the plan and the window ask for it by."""
    update: HostUpdate = bench.update
    assert isinstance(bench.update, GuestUpdate)
    assert (update.scope, update.preserves_memory) == (Scope.GUEST, True)


def test_all_guests_go_on_in_the_new_qemu(bench):
    """Probed before the pause, laid out and swapped in it, proven after it."""
    bench.prepare()
    assert bench.host.parking.probed == [str(bench.old), str(bench.new)] * 2
    assert [plan.parking.name for plan in bench.swap.prepared] == ["a", "b"]
    assert bench.swap.prepared[0].emulators == {"old": str(bench.old), "new": str(bench.new)}
    applied = bench.update.apply(bench.context, soon())
    assert sorted(bench.swap.swapped) == ["a", "b"]
    assert applied.detail == f"{OLD_VERSION} → {NEW_VERSION}"
    texts = dict(bench.laid_out)["a"]
    assert f"<emulator>{bench.new}</emulator>" in texts["new.xml"]
    assert f"<emulator>{bench.old}</emulator>" in texts["old.xml"]
    bench.update.verify(bench.context, soon())


def test_a_guest_that_is_refused_costs_the_update_and_no_other_guest(bench):
    """It is named with the reason; the other has its new QEMU."""
    bench.prepare()
    bench.swap.refused["a"] = UpdateFailed("it is in its old QEMU again", guest="a")
    with pytest.raises(UpdateFailed, match="1 of 2 guests: a: it is in its old QEMU again"):
        bench.update.apply(bench.context, soon())
    assert bench.host.parking.runs_new == {"b"}
    bench.update.rollback(bench.context, soon())  # each is in a QEMU that was planned


def test_a_qemu_that_nobody_planned_is_noticed(bench):
    """By verify, and by rollback."""
    bench.prepare()
    with pytest.raises(UpdateFailed, match=r"a runs in QEMU 7\.2\.22 \(old\), not 10\.0\.2"):
        bench.update.verify(bench.context, soon())
    bench.host.parking.looks["a"]["version"] = "3.1.0"
    with pytest.raises(UpdateFailed, match=r"a runs in QEMU 3\.1\.0"):
        bench.update.rollback(bench.context, soon())


def test_a_guest_whose_ram_would_be_lost_by_a_save_is_noticed(bench):
    """The capability must be off again."""
    bench.prepare()
    bench.update.apply(bench.context, soon())
    bench.host.parking.capable.add("b")
    with pytest.raises(UpdateFailed, match="b: its RAM would be left out when it is saved"):
        bench.update.verify(bench.context, soon())


def test_every_reason_of_every_guest_is_told_at_plan_time(bench):
    """Nothing is touched."""
    bench.host.parking.looks["a"]["backings"] = ()
    bench.host.parking.looks["b"]["jobs"] = ("vda",)
    with pytest.raises(PlanError) as told:
        bench.examine()
    assert "the QEMU of 2 of 2 guests cannot be replaced" in str(told.value)
    assert "a: its RAM is private memory" in str(told.value)
    assert "b: a block job is under way: vda" in str(told.value)
    assert {what for what, _ in bench.host.calls} <= {"look"}


def test_a_guest_that_is_in_that_qemu_already_has_nothing_to_do(bench):
    """It is said; a rehearsal may insist. It is not needed if that is so of all."""
    for runs, refused in (({"a"}, PlanError), ({"a", "b"}, NotNeeded)):
        bench.host.parking.runs_new = runs
        with pytest.raises(PlanError, match=r"a: it runs in QEMU 10\.0\.2 \(new\) already") as told:
            bench.examine()
        assert type(told.value) is refused


def test_a_rehearsal_stays_in_the_same_qemu(tmp_path, monkeypatch):
    """``again = true``."""
    bench = Bench(tmp_path, monkeypatch, emulator=None, again=True)
    bench.prepare()
    assert bench.swap.prepared[0].emulators == {"old": str(bench.old), "new": str(bench.old)}


def test_without_a_way_back_nobody_is_paused(bench):
    """The QEMU that they run in was replaced on the disk."""
    qemu(bench.folder / "old", NEW_VERSION)
    with pytest.raises(PlanError, match=r"no way back.*update\.previous"):
        bench.examine()


def test_the_way_back_may_lead_through_a_folder_of_packages(tmp_path, monkeypatch):
    """By a script that tells that QEMU where its data are."""
    tree = tmp_path / "tree"
    qemu(tree / "usr/bin", OLD_VERSION)
    (tree / "usr/share/qemu").mkdir(parents=True)
    (tree / "usr/lib/qemu").mkdir(parents=True)
    monkeypatch.setattr("harness.updates.qemu.programs.WRAPPERS", tmp_path / "wrappers")
    bench = Bench(tmp_path, monkeypatch, previous=tree)
    qemu(bench.folder / "old", NEW_VERSION)
    monkeypatch.setattr("harness.updates.qemu.programs.in_tree.__defaults__", (tmp_path / "w",))
    bench.prepare()
    (script,) = (tmp_path / "w").glob("*/qemu-system-x86_64")
    assert f"QEMU_MODULE_DIR={tree}/usr/lib/qemu exec {tree}/usr/bin/" in script.read_text()
    assert f"-L {tree}/usr/share/qemu" in script.read_text()
    assert os.access(script, os.X_OK)


def test_a_qemu_of_a_folder_that_does_not_start_is_told_with_what_may_be_missing(
    tmp_path, monkeypatch
):
    """libvirt only says that it is gone; nobody is paused."""
    qemu(tmp_path / "tree/usr/bin", NEW_VERSION)
    bench = Bench(tmp_path, monkeypatch, emulator=None, tree=tmp_path / "tree")

    def gone(emulator, *rest):
        if "emulators" in emulator:
            raise HypervisorError("the cause is unknown", operation="probing")

    wrappers = tmp_path / "emulators"
    monkeypatch.setattr("harness.updates.qemu.programs.in_tree.__defaults__", (wrappers,))
    monkeypatch.setattr(bench.host.parking, "probe", gone)
    with pytest.raises(UpdateFailed, match="the cause is unknown") as told:
        bench.prepare()
    assert "qemu-system-modules-*" in (told.value.hint or "")
    assert bench.swap.prepared == []


def test_a_guest_that_changed_since_the_plan_is_not_paused(bench):
    """A block job was started in between."""
    bench.examine()
    bench.host.parking.looks["b"]["jobs"] = ("vda",)
    with pytest.raises(UpdateFailed, match="block job"):
        bench.update.prepare(bench.context, soon())
    assert bench.swap.prepared == []


def test_an_abandoned_update_parks_nobody_more(bench):
    """Who is not parked yet stays as it is."""
    bench.prepare()
    bench.update.abandon()
    with pytest.raises(UpdateFailed, match="abandoned before it was parked"):
        bench.update.apply(bench.context, soon())
    assert bench.swap.swapped == []


def test_what_guests_take_grows_with_them_and_shrinks_with_cores(bench):
    """Seconds: to replace them, and to bring them back."""
    assert bench.update.needs(1).expected_s == bench.update.needs(2).expected_s == 3.0
    assert bench.update.needs(8).expected_s == 12.0
    assert bench.update.needs(8).reserve_s == 10.0
    own = QemuUpdate(QemuSettings(expected_s=7.0), cores=2)
    assert (own.needs(1).expected_s, own.expected_from) == (7.0, "update.expected_s")
    slow, hasty = (QemuUpdate(QemuSettings(expected_s=one), cores=2) for one in (90.0, 1.0))
    assert slow.needs(1).reserve_s == pytest.approx(62.0)
    assert hasty.needs(1).reserve_s == pytest.approx(4.0)


@pytest.mark.parametrize(("given", "expected"), [({}, 0.0), ({"expected_s": 90.0}, 90.0)])
def test_a_start_may_take_as_long_as_its_owner_expects(tmp_path, monkeypatch, given, expected):
    """On a host that is slow; else what no start has ever taken is a hang."""
    bench = Bench(tmp_path, monkeypatch, **given)
    bench.prepare()
    assert {plan.parking.start_s for plan in bench.swap.prepared} == {expected}


def slow(program: Path, seconds: float, status: int = 0) -> Path:
    """Let it take that long to start, and count how often it did."""
    count = program.with_name("starts")
    how = f"echo >> {count}; sleep {seconds}; echo '{{\"return\": {{}}}}'; exit {status}"
    text = program.read_text().replace("#!/bin/sh\n", "")
    program.write_text(f'#!/bin/sh\ncase "$*" in *-qmp*) {how};; esac\n{text}')
    return count


def test_a_start_may_take_as_long_as_the_slower_qemu_is_measured_to(bench):
    """Each is started once for all guests, by itself, before anybody is paused."""
    starts = [slow(bench.old, 0.3), slow(bench.new, 0.0)]
    bench.prepare()
    given = {plan.parking.start_s for plan in bench.swap.prepared}
    assert len(given) == 1
    assert 20 * 0.3 <= given.pop() < 20 * 5.0
    assert [len(count.read_text().splitlines()) for count in starts] == [1, 1]


def test_a_qemu_that_does_not_start_by_itself_is_given_what_any_is(bench):
    """The probe says what is wrong with it; nothing is concluded from how long that took."""
    for program in (bench.old, bench.new):
        slow(program, 0.2, status=1)
    bench.prepare()
    assert {plan.parking.start_s for plan in bench.swap.prepared} == {0.0}


def test_settings_that_make_no_sense_are_refused(tmp_path):
    """With the key."""
    with pytest.raises(ConfigError, match=r"update\.scope"):
        QemuUpdate(QemuSettings(scope=Scope.HOST))
    both = QemuUpdate(QemuSettings(emulator=tmp_path, tree=tmp_path))
    missing = QemuUpdate(QemuSettings(previous=tmp_path / "none"))
    if os.geteuid() == 0:
        with pytest.raises(ConfigError, match=r"update\.emulator"):
            both.check()
        with pytest.raises(ConfigError, match="none does not exist"):
            missing.check()
    else:
        with pytest.raises(MissingCapability):
            both.check()
    with pytest.raises(ConfigError):
        QemuUpdate(QemuSettings(), Site("qemu+ssh://elsewhere/system")).check()


def test_what_was_not_examined_is_not_paused(bench):
    """A window that offers no swap, or guests that nobody looked at."""
    with pytest.raises(UpdateFailed, match="not examined"):
        bench.update.prepare(bench.context, soon())
    with pytest.raises(UpdateFailed, match="not examined"):
        bench.update.verify(bench.context, soon())
    bare = UpdateContext("run", bench.folder, "0", ("a",), bench.folder, 30.0)
    with pytest.raises(UpdateFailed, match="offers no replacement"):
        bench.update.apply(bare, soon())


def test_the_files_of_a_guest_are_roots_alone_and_made_anew(tmp_path, monkeypatch):
    """What a run left that ended before it parked anybody goes; kept RAM of a guest never does."""
    monkeypatch.setattr("harness.updates.qemu.update.FILES", tmp_path / "run" / "parked")
    instance = tmp_path / "ram" / "1-a"
    instance.mkdir(parents=True)
    (instance / "pc.ram").write_bytes(b"RAM")
    identity = ram_links.identity((instance / "pc.ram").stat())
    backing = replace(eligible("a", "u").backings[0], path=f"{instance}/pc.ram", identity=identity)
    parking = parking_for(replace(eligible("a", "u"), backings=(backing,)))
    for _ in range(2):
        lay_out(parking, {"new.xml": "NEW", "old.xml": "OLD"})
    files = Path(parking.files)
    assert sorted(one.name for one in files.iterdir()) == ["new.xml", "old.xml"]
    assert files.stat().st_mode & 0o777 == 0o700
    assert files.parents[1].stat().st_mode & 0o777 == 0o711
    ram_links.hold(Path(parking.keep), instance, parking.ram)
    with pytest.raises(InfrastructureError, match="exists"):
        lay_out(parking, {})
    assert ram_links.held(Path(parking.keep), parking.ram)
