"""Parking by libvirt, on a libvirt in memory: what is asked of it, and in which order.

That libvirt and QEMU do what is asked here is shown on real guests (tests/guest/test_qemu.py).
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import libvirt
import pytest

from harness.core.errors import (
    DeadlineExpired,
    GuestNotFound,
    HypervisorError,
    InfrastructureError,
    WrongState,
)
from harness.core.timebase import Deadline
from harness.host import copied_ram, given_up_start, parked_files, parker, ram_links
from harness.host.parker import LibvirtParking
from harness.host.parking import Berth, Parking, ProcessIdentity
from harness.host.start_commands import StartCommands

UUID = "0b1c"


def lost(code: int) -> libvirt.libvirtError:
    error = libvirt.libvirtError("made up")
    error.err = (code, libvirt.VIR_FROM_QEMU, "refused", 2, None, None, None, 0, 0)
    return error


class World:
    """libvirt, its one guest, and the files of that guest's RAM."""

    def __init__(self, folder: Path, *, persistent: bool) -> None:
        self.ram = folder / "ram"
        self.persistent = persistent
        self.id = 7
        self.next_id = 8
        self.state, self.reason = libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER
        self.there = True
        self.managed = False
        self.job = libvirt.VIR_DOMAIN_JOB_NONE
        self.image_xml = ""
        self.asked: list[tuple[str, bool | None]] = []
        self.did: list[str] = []
        self.has_qemu = lambda: True
        self.is_qemu = True
        self.refuses: list[Exception] = []
        self.is_choosy = False
        """Its QEMU refuses the state where the RAM is not there."""
        self.mapped: set[str] = set()
        instance = self.ram / "7-web1"
        instance.mkdir(parents=True)
        (instance / "pc.ram").write_bytes(b"RAM")
        self.own = ram_links.identity((instance / "pc.ram").stat())
        self.mapped = {self.own}
        self.saves = folder / "saves"
        self.saves.mkdir()

    @property
    def runs(self) -> bool:
        return self.id > 0

    def process(self, uuid: str) -> ProcessIdentity | None:
        return ProcessIdentity(self.id, 1) if self.runs and self.is_qemu else None

    def is_started(self, uuid: str, name: str) -> bool:
        return self.runs and self.has_qemu()

    def ask(self, domain, command: str, **arguments):
        (one,) = arguments["capabilities"]
        self.asked.append((command, one["state"]))

    def end(self) -> None:
        """What libvirt does when an instance ends."""
        for file in (self.ram / f"{self.id}-web1").iterdir():
            file.unlink()
        (self.ram / f"{self.id}-web1").rmdir()
        self.id, self.mapped = -1, set()
        self.there = self.persistent

    def start(self) -> None:
        """A QEMU opens what lies under its id, else makes RAM of its own."""
        folder = self.ram / f"{self.next_id}-web1"
        if self.refuses or (self.is_choosy and not folder.exists()):
            self.next_id += 1
            shutil.rmtree(folder, ignore_errors=True)
            raise self.refuses.pop(0) if self.refuses else lost(libvirt.VIR_ERR_INTERNAL_ERROR)
        self.id, self.next_id = self.next_id, self.next_id + 1
        folder.mkdir(exist_ok=True)
        (folder / "pc.ram").touch()
        self.mapped = {ram_links.identity((folder / "pc.ram").stat())}
        self.there, self.state = True, libvirt.VIR_DOMAIN_PAUSED


class Domain:
    """A handle of the guest."""

    def __init__(self, world: World) -> None:
        self.world = world

    def ID(self):
        return self.world.id

    def state(self):
        return [self.world.state, self.world.reason]

    def isActive(self):
        return self.world.runs

    def hasManagedSaveImage(self):
        return self.world.managed

    def saveFlags(self, path, xml, flags):
        self.world.did.append(f"save {xml}")
        Path(path).write_text("state")
        self.world.end()

    def managedSave(self, flags):
        self.world.did.append("managed save")
        self.world.managed = True
        (self.world.saves / "web1.save").write_text("state")
        self.world.end()

    def managedSaveDefineXML(self, xml, flags):
        self.world.did.append(f"define {xml}")

    def createWithFlags(self, flags):
        self.world.did.append("create")
        self.world.start()
        self.world.managed = False
        (self.world.saves / "web1.save").unlink()

    def jobInfo(self):
        return [self.world.job, 0]

    def abortJob(self):
        self.world.did.append("abort")
        self.world.job = libvirt.VIR_DOMAIN_JOB_NONE

    def isPersistent(self):
        return self.world.persistent

    def XMLDesc(self, flags):
        return f"XML {flags}"

    def managedSaveGetXMLDesc(self, flags):
        return self.world.image_xml

    def managedSaveRemove(self, flags):
        self.world.did.append("remove")
        self.world.managed = False

    def destroy(self):
        self.world.did.append("destroy")
        self.world.end()
        if not self.world.persistent:
            raise lost(libvirt.VIR_ERR_NO_DOMAIN)


class Link:
    """A connection to it; also its own ``connection``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.connection = self

    def forget(self, uuid):
        pass

    def guest(self, uuid):
        if not self.world.there:
            raise GuestNotFound("gone", operation="looking up", guest=uuid)
        return Domain(self.world)

    def defineXML(self, xml):
        self.world.did.append(f"definition {xml}")

    def restoreFlags(self, path, xml, flags):
        self.world.did.append(f"restore {xml}")
        assert Path(path).read_text() == "state"
        self.world.start()


class Bench:
    def __init__(self, folder: Path, monkeypatch, *, persistent: bool = False) -> None:
        self.world = World(folder, persistent=persistent)
        keep = ram_links.keep_folder(self.world.ram, UUID)
        ram_links.make_keep(keep)
        self.keep, self.files = keep, folder / "files"
        self.files.mkdir()
        (self.files / "new.xml").write_text("NEW")
        (self.files / "old.xml").write_text("OLD")
        self.parking = Parking(
            name="web1",
            uuid=UUID,
            persistent=persistent,
            keep=str(keep),
            files=str(self.files),
            ram_folder=str(self.world.ram),
            short_name="web1",
            ram={"pc.ram": self.world.own},
            commands=str(folder / "links" / UUID),
            highest_id=7,
        )
        monkeypatch.setattr(copied_ram, "MANAGED", self.world.saves)
        monkeypatch.setattr(
            parker, "maps_files", lambda pid, files: set(files) <= self.world.mapped
        )
        for module in (parked_files, parker):
            monkeypatch.setattr(
                module, "StartCommands", lambda path: StartCommands(path, folder / "run")
            )
        self.world.image_xml = f"<arg value='pipe,path={self.parking.commands}'/>"
        self.commands = folder / "links" / f"{UUID}.in"

        def call(operation, guest, deadline, work):
            return work(Link(self.world))

        self.subject = LibvirtParking(
            call, self.world.process, self.world.is_started, ask=self.world.ask
        )

    def berth(self) -> Berth:
        return self.subject.berth(self.parking, soon())

    def reboot(self) -> None:
        """What was in memory is gone."""
        for one in self.world.ram.iterdir():
            shutil.rmtree(one)

    def folders(self) -> list[str]:
        return sorted(one.name for one in self.world.ram.iterdir())


def soon() -> Deadline:
    return Deadline.after(10)


@pytest.fixture(params=[False, True], ids=["transient", "persistent"])
def bench(request, tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch, persistent=request.param)


def test_a_guest_is_parked_and_comes_back_with_its_own_ram(bench):
    """RAM is left out of the save only; in the end nothing is on offer, and no state is left."""
    bench.subject.park(bench.parking, soon())
    assert bench.berth() is Berth.PARKED
    assert bench.world.asked == [("migrate-set-capabilities", True)]
    found = bench.subject.unpark(bench.parking, soon(), new=True)
    assert found.process == ProcessIdentity(8, 1)
    assert bench.berth() is Berth.AFLOAT
    assert bench.world.mapped == {bench.world.own}
    assert bench.world.asked[-1] == ("migrate-set-capabilities", False)
    assert bench.folders() == ["8-web1", "harness-keep"]
    assert sorted(one.name for one in bench.files.iterdir()) == ["new.xml", "old.xml"]
    assert os.readlink(bench.commands) == "/dev/null"
    expected = {
        False: ["save NEW", "restore NEW"],
        True: ["managed save", "define NEW", "define NEW", "create"],
    }
    assert bench.world.did == expected[bench.parking.persistent]
    bench.subject.settle(bench.parking, soon())
    assert bench.folders() == ["8-web1"]
    assert not bench.files.exists()


def test_a_state_that_outlasts_a_boot_is_gone_from_the_disk_before_its_guest_may_run(
    bench, monkeypatch
):
    """Else the next boot would start it once more, beside a disk that has gone on."""
    parking = replace(bench.parking, lasting=True)
    bench.subject.park(parking, soon())
    synced: list[list[str]] = []

    def fsync(descriptor: int) -> None:
        synced.append(sorted(os.listdir(descriptor)))

    monkeypatch.setattr(os, "fsync", fsync)
    bench.subject.unpark(bench.parking, soon(), new=True)
    assert synced == []  # one whose state ends with this boot waits for no disk
    bench.subject.unpark(parking, soon(), new=True)
    states = {"state", "state.copy", "web1.save"}
    assert synced
    assert all(states.isdisjoint(names) for names in synced)


def test_a_guest_whose_state_cannot_be_removed_is_not_let_run(bench, monkeypatch):
    """It stays paused, and that is told."""
    parking = replace(bench.parking, lasting=True)
    bench.subject.park(parking, soon())
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.parent == bench.files and path.name.startswith("state"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(InfrastructureError, match="may not run beside it"):
        bench.subject.unpark(parking, soon(), new=True)


def test_the_old_qemu_takes_over_by_its_own_description(bench):
    """After the new one has refused: state and RAM are as they were."""
    bench.subject.park(bench.parking, soon())
    bench.world.refuses = [lost(libvirt.VIR_ERR_INTERNAL_ERROR)]
    with pytest.raises(HypervisorError, match="refused"):
        bench.subject.unpark(bench.parking, soon(), new=True)
    assert bench.berth() is Berth.PARKED
    bench.subject.unpark(bench.parking, soon(), new=False)
    assert bench.berth() is Berth.AFLOAT
    assert [did for did in bench.world.did if "OLD" in did]


def test_an_id_that_nobody_thought_of_is_found_by_the_inode_and_tried_again(bench):
    """The QEMU that made RAM of its own is ended before its first instruction."""
    bench.subject.park(bench.parking, soon())
    bench.world.next_id = 900
    bench.subject.unpark(bench.parking, soon(), new=True)
    assert bench.berth() is Berth.AFLOAT
    assert bench.world.mapped == {bench.world.own}
    assert bench.world.did.count("destroy") == 1
    assert bench.folders() == ["901-web1", "harness-keep"]


def unparked(bench: Bench, tries: int) -> bool:
    """Whether one of so many attempts brings it back, each by a process that knows of no other."""
    for _ in range(tries):
        with suppress(HypervisorError):
            bench.subject.unpark(bench.parking, soon(), new=True)
            return bench.world.mapped == {bench.world.own}
    return False


def test_a_guest_that_was_refused_more_often_than_ids_were_on_offer_comes_back(bench):
    """libvirt counts refused starts as well; a QEMU that finds no RAM refuses the state."""
    bench.subject.park(bench.parking, soon())
    bench.world.is_choosy = True
    bench.world.refuses = [lost(libvirt.VIR_ERR_HOOK_SCRIPT_FAILED) for _ in range(300)]
    assert not unparked(bench, 300)
    assert unparked(bench, 1)
    assert bench.berth() is Berth.AFLOAT
    assert bench.folders() == ["308-web1", "harness-keep"]


def test_an_id_that_nobody_thought_of_is_come_by_where_qemu_refuses_other_ram(bench):
    """Nobody sees under which id that was: so more of them are tried each time."""
    bench.subject.park(bench.parking, soon())
    bench.world.is_choosy, bench.world.next_id = True, 900
    assert unparked(bench, 6)
    assert bench.berth() is Berth.AFLOAT


def test_refused_starts_do_not_have_ram_on_offer_without_end(bench, monkeypatch):
    """A guest that is tried for days."""
    monkeypatch.setattr(parked_files, "_IDS_AT_MOST", 100)
    bench.subject.park(bench.parking, soon())
    bench.world.refuses = [lost(libvirt.VIR_ERR_XML_ERROR) for _ in range(200)]
    assert not unparked(bench, 200)
    assert len(bench.folders()) <= 100 + 64 + 1


def test_ids_start_again_at_one_when_libvirtd_was_restarted(bench):
    """What is low is on offer, too."""
    bench.subject.park(bench.parking, soon())
    bench.world.next_id = 1
    bench.subject.unpark(bench.parking, soon(), new=True)
    assert "destroy" not in bench.world.did
    assert bench.folders() == ["1-web1", "harness-keep"]


def test_a_guest_that_runs_is_not_parked(bench):
    """Nothing is asked of its QEMU."""
    bench.world.state = libvirt.VIR_DOMAIN_RUNNING
    with pytest.raises(WrongState, match="not paused"):
        bench.subject.park(bench.parking, soon())
    assert bench.world.asked == []


def test_a_guest_that_has_its_own_ram_keeps_its_qemu(bench):
    """It is only put in order: a run may have died after it had left RAM out of saves."""
    bench.subject.unpark(bench.parking, soon(), new=True)
    assert bench.world.did == []
    assert bench.world.asked == [("migrate-set-capabilities", False)]


def test_nothing_is_started_when_nobody_waits_any_more(bench):
    """A call that was given up must not start a second QEMU behind the next one's back."""
    bench.subject.park(bench.parking, soon())
    with pytest.raises(DeadlineExpired):
        bench.subject.unpark(bench.parking, Deadline.after(0), new=True)
    assert bench.berth() is Berth.PARKED


def test_a_guest_whose_ram_is_gone_is_lost_and_never_started(bench):
    """The host was booted: its RAM was in memory."""
    bench.subject.park(bench.parking, soon())
    bench.reboot()
    assert bench.berth() is Berth.LOST
    with pytest.raises(GuestNotFound, match="RAM is not kept"):
        bench.subject.unpark(bench.parking, soon(), new=True)
    assert not [did for did in bench.world.did if did.startswith(("restore", "create"))]


def test_a_start_that_hangs_is_ended_and_the_guest_is_parked_as_before(bench):
    """It has a QEMU without its RAM, and no vCPU has run."""
    bench.subject.park(bench.parking, soon())
    bench.world.start()
    bench.world.managed = False
    bench.world.mapped = {"0:0"}
    assert bench.berth() is Berth.ADRIFT
    bench.subject.end_start(bench.parking, soon())
    assert bench.berth() is Berth.PARKED
    assert bench.world.did[-1] == "destroy"


def starting(bench, *has_qemu: bool) -> None:
    """Its start is under way; whether it has a QEMU, each time that is asked; then as the last."""
    bench.subject.park(bench.parking, soon())
    bench.world.start()
    bench.world.managed = False
    bench.world.mapped, bench.world.reason = {"0:0"}, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP
    answers = chain(has_qemu, repeat(has_qemu[-1]))
    bench.world.has_qemu = lambda: next(answers)


def test_a_start_that_libvirt_does_not_carry_on_is_said_to_be_that(bench, monkeypatch):
    """It has no QEMU to be ended, and a call that ends it would hang."""
    monkeypatch.setattr(given_up_start, "_QEMU_S", 0.05)
    starting(bench, False)
    assert bench.berth() is Berth.ADRIFT
    with pytest.raises(HypervisorError, match="holds on to a start .* that has no QEMU"):
        bench.subject.unpark(bench.parking, soon(), new=False)
    assert "destroy" not in bench.world.did


def test_a_start_is_ended_when_it_has_its_qemu(bench):
    """Not before: there would be nothing to end, and it would go on."""
    starting(bench, False, False, True)
    bench.subject.end_start(bench.parking, soon())
    assert bench.world.did[-1] == "destroy"
    bench.world.has_qemu = lambda: True
    assert bench.berth() is Berth.PARKED


def test_a_start_that_hangs_before_there_is_a_qemu_is_ended(bench):
    """Its emulator is a program of someone's that has not come to that."""
    starting(bench, True)
    bench.world.is_qemu = False
    bench.subject.end_start(bench.parking, soon())
    assert bench.world.did[-1] == "destroy"


def test_a_guest_that_runs_or_was_unparked_is_never_ended(bench):
    """Whatever another process of ours believes."""
    bench.subject.park(bench.parking, soon())
    bench.world.start()
    bench.world.state = libvirt.VIR_DOMAIN_RUNNING
    bench.subject.end_start(bench.parking, soon())
    assert "destroy" not in bench.world.did
    bench.world.state = libvirt.VIR_DOMAIN_PAUSED
    bench.subject.unpark(bench.parking, soon(), new=True)
    ended = bench.world.did.count("destroy")
    bench.subject.end_start(bench.parking, soon())
    assert bench.world.did.count("destroy") == ended


def test_what_another_process_of_ours_is_about_is_waited_for(bench, monkeypatch):
    """And not ended, if that takes too long."""
    monkeypatch.setattr(parker, "_LOCK_S", 0.05)
    bench.subject.park(bench.parking, soon())
    bench.world.start()
    with parked_files.locked(bench.files, soon()) as held:
        assert held
        bench.subject.end_start(bench.parking, soon())
    assert "destroy" not in bench.world.did


def test_another_that_was_faster_is_no_failure(bench):
    """libvirt refuses the second start; the guest has its RAM."""
    bench.subject.park(bench.parking, soon())
    start = bench.world.start

    def beaten() -> None:
        start()
        raise lost(libvirt.VIR_ERR_OPERATION_INVALID)

    bench.world.start = beaten
    bench.subject.unpark(bench.parking, soon(), new=True)
    assert bench.berth() is Berth.AFLOAT


def test_a_guest_that_is_let_go_can_be_saved_by_anybody(bench):
    """Somebody has taken it over in the midst of a replacement: its RAM is in its saves again."""
    bench.subject.park(bench.parking, soon())
    bench.world.start()
    bench.subject.settle(bench.parking, soon())
    assert bench.world.asked[-1] == ("migrate-set-capabilities", False)


def test_a_guest_that_is_gone_has_nothing_to_be_ended(bench):
    """Nor to be settled but its files."""
    bench.world.end()
    bench.world.there = False
    bench.subject.end_start(bench.parking, soon())
    bench.subject.settle(bench.parking, soon())
    assert bench.folders() == []
    bench.subject.end_start(bench.parking, soon())


def test_what_qemu_refuses_is_said(monkeypatch):
    """With its own words."""
    monkeypatch.setattr(
        "libvirt_qemu.qemuMonitorCommand",
        lambda domain, text, flags: '{"error": {"desc": "no such capability"}}',
    )
    with pytest.raises(HypervisorError, match="QEMU refused query-x: no such capability"):
        parker.monitor(None, "query-x")
    monkeypatch.setattr(
        "libvirt_qemu.qemuMonitorCommand", lambda domain, text, flags: '{"return": {"a": 1}}'
    )
    assert parker.monitor(None, "query-x") == {"a": 1}


def test_ram_that_was_kept_and_removed_is_kept_again_from_where_it_is_on_offer(bench):
    """Somebody tidied up: the guest comes back with its own RAM."""
    bench.subject.park(bench.parking, soon())
    shutil.rmtree(bench.keep.parent)
    assert bench.berth() is Berth.PARKED
    bench.subject.unpark(bench.parking, soon(), new=True)
    assert bench.world.mapped == {bench.world.own}
    assert ram_links.held(bench.keep, bench.parking.ram)


def test_a_managed_save_that_somebody_removed_is_replaced_by_its_copy(tmp_path, monkeypatch):
    """Also where the guest was undefined with it."""
    for there in (True, False):
        bench = Bench(tmp_path / str(there), monkeypatch, persistent=True)
        bench.subject.park(bench.parking, soon())
        bench.world.managed, bench.world.there = False, there
        assert bench.berth() is Berth.PARKED
        bench.subject.unpark(bench.parking, soon(), new=False)
        assert bench.world.did[-1] == "restore OLD"
        assert bench.world.mapped == {bench.world.own}


def test_a_managed_save_is_enough_where_our_own_files_are_gone(tmp_path, monkeypatch):
    """It names the new QEMU; no error that is not ours gives the guest up."""
    bench = Bench(tmp_path, monkeypatch, persistent=True)
    bench.subject.park(bench.parking, soon())
    shutil.rmtree(bench.files)
    with pytest.raises(InfrastructureError, match=r"old.xml: No such file"):
        bench.subject.unpark(bench.parking, soon(), new=False)
    bench.subject.unpark(bench.parking, soon(), new=True)
    assert bench.berth() is Berth.AFLOAT
    assert bench.world.did[-1] == "create"


def test_half_a_copy_of_a_managed_save_is_none(tmp_path, monkeypatch):
    """No room for it: once the save is removed as well, nobody is started by what was written."""

    def half(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    bench = Bench(tmp_path, monkeypatch, persistent=True)
    monkeypatch.setattr(shutil, "copyfile", half)
    bench.subject.park(bench.parking, soon())
    assert not parked_files.has_copy(bench.parking)


def test_no_old_state_meets_the_ram_of_a_guest_that_ran_since(tmp_path, monkeypatch):
    """Somebody started it by its managed save, and it was shut down: it has ended."""
    bench = Bench(tmp_path, monkeypatch, persistent=True)
    bench.subject.park(bench.parking, soon())
    Domain(bench.world).createWithFlags(0)
    bench.world.end()
    assert (bench.files / "state.copy").exists()
    assert bench.berth() is Berth.LOST


def test_a_managed_save_whose_ram_is_gone_is_removed(tmp_path, monkeypatch):
    """After a reboot of the host: nobody is to start the guest by it."""
    bench = Bench(tmp_path, monkeypatch, persistent=True)
    bench.subject.park(bench.parking, soon())
    bench.reboot()
    for _ in range(2):
        bench.subject.settle(bench.parking, soon())
    assert bench.world.did.count("remove") == 1
    assert not bench.world.managed
    assert os.readlink(bench.commands) == "/dev/null"


@pytest.mark.parametrize("whose", ["kept", "another's", "not armed"])
def test_no_other_managed_save_is_removed(tmp_path, monkeypatch, whose):
    """One by which the guest can come back, or that its owner has made."""
    bench = Bench(tmp_path, monkeypatch, persistent=True)
    bench.subject.park(bench.parking, soon())
    if whose != "kept":
        bench.reboot()
    if whose == "another's":
        bench.world.image_xml = "<domain/>"
    if whose == "not armed":
        StartCommands(Path(bench.parking.commands)).disarm()
    bench.subject.settle(bench.parking, soon())
    assert bench.world.managed


def test_a_guest_is_not_lost_because_files_cannot_be_looked_at(bench, monkeypatch):
    """A full table of files says nothing of what is in them."""
    bench.subject.park(bench.parking, soon())
    full = OSError(errno.EMFILE, "Too many open files")

    def no(folder):
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(ram_links, "_opened", no)
        with pytest.raises(InfrastructureError, match="Too many open files"):
            bench.berth()
    assert bench.berth() is Berth.PARKED


def test_a_guest_that_goes_while_it_is_looked_for_is_where_its_files_are(bench, monkeypatch):
    """A start that fails takes a transient guest away at any time."""
    bench.subject.park(bench.parking, soon())
    bench.world.there = True

    def gone(domain: Domain) -> bool:
        raise lost(libvirt.VIR_ERR_NO_DOMAIN)

    monkeypatch.setattr(Domain, "isActive", gone)
    assert bench.berth() is Berth.PARKED
