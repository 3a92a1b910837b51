"""Guests that were handed over to another kernel: brought back, judged, never from one state twice.

The handover is a journal and a plan as a run leaves them; the next boot is told by its boot id.
"""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.core.errors import HypervisorError, UpdateFailed
from harness.core.records import Outcome
from harness.core.settings import Scope
from harness.host.driver import LibvirtHypervisor
from harness.host.kernel import early, kexec, magic, modules, networks
from harness.host.lifecycle import GuestState
from harness.host.parking import Parking
from harness.host.protocol import EventKind
from harness.host.region.place import PERSISTENT, Region
from harness.maintenance.pause.parkable import parkable
from harness.maintenance.progress import Phase
from harness.maintenance.recovery import assessment, handover
from harness.maintenance.recovery.record import Action, RunRecovery
from harness.maintenance.thaw import arrival, program
from harness.results.folder import RunFolder
from harness.results.journal import FILE_NAME, Custody, Journal, entries, fold, read
from harness.results.unfinished import dead_runs
from harness.updates.kernel.plan import ThawPlan
from tests.maintenance.conftest import House, of, verdicts
from tests.maintenance.recovery.test_recover import Killed, finish, killed
from tests.maintenance.updates import Hooked, raising

REGION = Region(1 << 32, 1 << 30)
CHECKS = ("clock", "same-boot", "kernel-log", "host-kernel", "host-boot", "host-clock")


class Leaves(Hooked):
    """An update that parks both guests, hands them over, and ends with its kernel."""

    release = os.uname().release

    def __init__(self, at: House) -> None:
        super().__init__(scope=Scope.HOST)
        self.at = at
        self.guests = tuple(
            Parking(
                one.name,
                one.uuid,
                persistent=False,
                keep="/keep",
                files="/files",
                ram_folder="/ram",
                short_name=one.name,
                ram={"pc.ram": "1:2"},
                commands="/c",
            )
            for one in at.guests
        )
        self.journal: tuple[Path, int] | None = None
        """The journal, and its length when the kernel was left."""

    def prepare(self, context, deadline) -> None:
        with Journal(context.run_dir, context.run_id, joining=True) as journal:
            for one in self.guests:
                journal.intend(parkable(one, {"new": "qemu"}, {"new": "10.0"}))

    def apply(self, context, deadline):
        with Journal(context.run_dir, context.run_id, joining=True) as journal:
            for one in self.guests:
                journal.intend(entries.Parking(one.name, one.uuid))
                self.at.host.parking.park(one, deadline)
                journal.intend(entries.Parked(one.name, one.uuid))
            for one in self.guests:
                journal.intend(entries.HandingOver(one.name, one.uuid, "/plan", self.release))
            journal.intend(entries.Leaving(self.release, "before"))
        self.journal = (journal.path, journal.path.stat().st_size)
        raise Killed


@dataclass
class Handed:
    """Two guests that wait in the region, and a host that has just been booted."""

    at: House
    folder: RunFolder
    plan: ThawPlan
    file: Path
    said: list[str]

    def thaw(self) -> bool:
        """What ``init=`` starts."""
        return program.thaw(self.plan, self.said.append)

    def recover(self) -> RunRecovery:
        """``harness recover``."""
        return finish(self.at, self.folder)

    def events(self, name: str) -> list[str]:
        """What the journal tells of a guest since the boot."""
        told = [line.entry for line in read(self.folder.path / FILE_NAME).lines]
        arrived = next(n for n, one in enumerate(told) if isinstance(one, entries.Arrived))
        return [one.event for one in told[arrived:] if getattr(one, "guest", None) == name]


def left_behind(at: House) -> tuple[RunFolder, tuple[Parking, ...]]:
    """A run that died with its kernel: nothing that its process did afterwards has been."""
    update = Leaves(at)
    folder = killed(at, update=update, checks__enable=list(CHECKS))
    assert update.journal is not None
    os.truncate(*update.journal)
    at.host.calls.clear()
    return folder, update.guests


@pytest.fixture
def handed(house, tmp_path, monkeypatch) -> Handed:
    at = house()
    folder, guests = left_behind(at)
    region = tmp_path / "ram"
    region.mkdir()
    iomem = tmp_path / "iomem"
    iomem.write_text(f"{REGION.start:x}-{REGION.end - 1:x} : {PERSISTENT}\n")
    plan = ThawPlan(
        folder.run_id, str(folder.path), "test:///x", "before", Leaves.release,
        magic.new_magic(folder.run_id), REGION.start, REGION.size, str(region), guests,
        limit_s=30.0,
    )  # fmt: skip
    magic.write(region, plan.magic)
    file = tmp_path / "handover"
    plan.write(file)
    monkeypatch.setattr(arrival, "IOMEM", iomem)
    monkeypatch.setattr(arrival, "boot_id", lambda: "after")
    monkeypatch.setattr(assessment, "boot_id", lambda: "after")
    monkeypatch.setattr(arrival, "set_clock", lambda history: (5_000_000, 1_000_000))
    monkeypatch.setattr(Path, "is_mount", lambda path: path == region)
    monkeypatch.setattr(handover, "HANDOVER", file)
    monkeypatch.setattr(handover, "synchronised", lambda: False)
    monkeypatch.setattr(networks, "start", lambda uri, known: None)
    monkeypatch.setattr(modules, "load", lambda names: None)
    monkeypatch.setattr(early, "mount_the_usual", lambda: None)
    monkeypatch.setattr(program, "CONSOLE", tmp_path / "console")
    monkeypatch.setattr(program, "settle_process", lambda: [])
    monkeypatch.setattr(signal, "signal", lambda number, what: None)
    monkeypatch.setattr(early, "give_kvm_its_group", lambda: None)
    monkeypatch.setattr(early, "give_a_group", lambda uuid, pid: None)
    monkeypatch.setattr(program, "FOLDER", tmp_path / "thaw")
    monkeypatch.setattr(program, "brief_libvirtd", lambda *_: nullcontext(lambda: None))
    monkeypatch.setattr(LibvirtHypervisor, "open", lambda uri, deadline: at.host)
    return Handed(at, folder, plan, file, [])


def test_both_come_back_before_init_and_the_run_is_finished_afterwards(handed):
    """The clocks are right, every promise is judged, and nothing of the handover is left."""
    assert handed.thaw(), handed.said
    assert handed.at.running == ["web1", "web2"]
    assert any("clock set by +5.0 ms" in line for line in handed.said)
    assert handed.folder.record().finished_at is None
    recovered = handed.recover()
    assert [one.action for one in recovered.guests] == [Action.RUNS, Action.RUNS]
    record = handed.folder.record()
    assert record.finished_at is not None
    for name in ("web1", "web2"):
        found = verdicts(of(record, name))
        assert {found[check] for check in ("clock", "same-boot", "host-boot")} == {"pass"}, found
        assert "host-kernel" in found
        assert "host-clock" in found
    assert all(abs(guest.offset_s) < 0.03 for guest in handed.at.guests)
    assert not handed.file.exists()
    assert list(dead_runs(handed.at.state_dir)) == []


def test_a_state_is_gone_before_its_guest_runs(handed):
    """In the journal, which is on the disk: after it no boot begins from that state again."""
    seen: dict[str, bool] = {}

    def look(name: str) -> None:
        custody = fold(read(handed.folder.path / FILE_NAME)).guests[f"uuid-{name}"]
        seen[name] = custody.consumed

    for name in ("web1", "web2"):
        handed.at.host.before[("resume", name)] = lambda name=name: look(name)
    assert handed.thaw()
    assert seen == {"web1": True, "web2": True}
    assert handed.events("web1")[-2:] == ["consumed", "resumed"]


def test_what_a_later_boot_finds_is_never_begun_from_again(handed, monkeypatch):
    """The host is reset after the thaw: those guests have ended, and are not unparked once more."""
    assert handed.thaw()
    monkeypatch.setattr(arrival, "boot_id", lambda: "third")
    monkeypatch.setattr(assessment, "boot_id", lambda: "third")
    for name in ("web1", "web2"):  # as a reset leaves a transient guest
        handed.at.host.become(name, GuestState.GONE, EventKind.STOPPED)
    handed.at.host.calls.clear()
    recovered = handed.recover()
    assert {one.action for one in recovered.guests} == {Action.ENDED}
    assert [call for call in handed.at.host.calls if "unpark" in call[0]] == []
    assert handed.folder.record().outcome is not Outcome.PASS


def test_recover_by_hand_brings_back_what_the_program_before_init_did_not(handed):
    """And a second time it changes nothing."""
    recovered = handed.recover()
    assert [one.action for one in recovered.guests] == [Action.RESUMED, Action.RESUMED]
    assert handed.at.running == ["web1", "web2"]
    record = handed.folder.record()
    assert record.finished_at is not None
    assert verdicts(of(record, "web1"))["host-boot"] == "pass"
    assert not handed.file.exists()
    before = (handed.folder.path / FILE_NAME).read_text()
    handed.recover()
    assert handed.folder.record() == record
    assert handed.at.running == ["web1", "web2"]
    assert "unparking" not in (handed.folder.path / FILE_NAME).read_text()[len(before) :]


def test_an_altered_page_in_the_region_brings_back_nobody(handed):
    """The memory was used by another; both guests have ended, and it is said why."""
    magic.write(Path(handed.plan.ram_folder), magic.new_magic("another"))
    assert not handed.thaw()
    assert any("no guest is brought back" in line for line in handed.said)
    history = fold(read(handed.folder.path / FILE_NAME))
    assert {one.custody for one in history.guests.values()} == {Custody.ENDED}
    assert [call for call in handed.at.host.calls if "unpark" in call[0]] == []
    recovered = handed.recover()
    record = handed.folder.record()
    assert (record.outcome, record.exit_code, recovered.verdict) == ("error", 3, "error")
    assert "another kernel used this memory" in record.problems[0]


def test_one_that_its_qemu_refuses_is_left_for_recover(handed):
    """The other one runs; recover tries again, and finishes both."""
    refused = raising(HypervisorError("refused", operation="unparking"))
    handed.at.host.before[("unpark new", "web1")] = refused
    assert not handed.thaw()
    assert handed.at.running == ["web2"]
    assert any("web1 is not back" in line for line in handed.said)
    handed.at.host.before.clear()
    recovered = handed.recover()
    actions = {one.member.name: one.action for one in recovered.guests}
    assert actions == {"web1": Action.RESUMED, "web2": Action.RUNS}
    assert handed.folder.record().finished_at is not None


def test_a_guest_that_cannot_be_logged_in_to_has_its_own_problem(handed):
    """The other one is judged all the same."""
    assert handed.thaw()
    handed.at.guests[0].unreachable = True
    handed.recover()
    record = handed.folder.record()
    assert "web1" in of(record, "web1").problems[0]
    assert of(record, "web1").outcome is not Outcome.PASS
    assert verdicts(of(record, "web2"))["same-boot"] == "pass"


@pytest.mark.parametrize("unreachable", [True, False])
def test_after_a_verdict_that_is_no_pass_the_way_back_is_told(handed, monkeypatch, unreachable):
    """Told, and not gone: all guests would be paused once more."""
    monkeypatch.setattr(handover, "way_back", lambda before, now: ("the way back",))
    assert handed.thaw()
    handed.at.guests[0].unreachable = unreachable
    handed.recover()
    record = handed.folder.record()
    assert ("the way back" in record.warnings) == (record.outcome is not Outcome.PASS)
    assert record.outcome is not Outcome.PASS or not unreachable
    assert handed.at.running == ["web1", "web2"]


def test_there_is_a_way_back_to_another_kernel_that_is_still_there(tmp_path):
    """By the command that has led here."""
    (tmp_path / "vmlinuz-6.1").touch()
    (said,) = handover.way_back("6.1", "6.12", tmp_path)
    assert f'update.kernel = "{tmp_path}/vmlinuz-6.1"' in said
    for before, now in (("6.12", "6.12"), ("6.2", "6.12"), ("", "6.12")):
        assert handover.way_back(before, now, tmp_path) == ()


def test_the_plan_of_another_run_is_not_followed(handed):
    """Nothing is mounted or started by it."""
    replace(handed.plan, run_id="another").write(handed.file)
    with pytest.raises(UpdateFailed, match="is of run another"):
        handed.recover()
    assert (handed.at.running, handed.at.host.calls) == ([], [])
    assert handed.file.exists()


def test_while_a_guest_is_stranded_there_is_no_verdict(handed):
    """The unit tries again: then both are judged together."""
    refused = raising(HypervisorError("refused", operation="unparking"))
    for which in ("unpark new", "unpark old"):
        handed.at.host.before[(which, "web1")] = refused
    recovered = handed.recover()
    assert recovered.stranded == ["web1"]
    assert handed.folder.record().finished_at is None
    assert handed.file.exists()
    handed.at.host.before.clear()
    handed.recover()
    record = handed.folder.record()
    assert record.finished_at is not None
    assert {one.name for one in record.guests} == {"web1", "web2"}
    assert not handed.file.exists()


def test_a_record_that_is_damaged_leaves_the_run_to_be_finished(handed):
    """Both guests are back all the same, and it is said why there is no verdict."""
    assert handed.thaw()
    (handed.folder.path / "run.json").write_text("{")
    recovered = handed.recover()
    assert "run.json" in str(recovered.error)
    assert handed.at.running == ["web1", "web2"]
    assert len(list(dead_runs(handed.at.state_dir))) == 1


def test_the_program_before_init_says_what_failed_and_ends(handed, tmp_path):
    """Whatever it is: the host has to come up."""
    assert program.main([str(handed.file)]) == 0
    assert handed.at.running == ["web1", "web2"]
    assert program.main([str(tmp_path / "no-plan")]) == 1
    log = (tmp_path / "thaw" / "log").read_text()
    assert "web1 runs" in log
    assert "failed: InfrastructureError" in log


@pytest.mark.parametrize(("boot", "unloaded"), [("before", [True]), ("after", [])])
def test_a_kernel_that_was_loaded_and_not_started_is_unloaded(handed, monkeypatch, boot, unloaded):
    """A reboot that goes by kexec would start it, without the init that it was given."""
    did: list[bool] = []
    monkeypatch.setattr(handover, "boot_id", lambda: boot)
    monkeypatch.setattr(kexec, "is_loaded", lambda: True)
    monkeypatch.setattr(kexec, "unload", lambda: did.append(True))
    handover.forget_of("another")
    assert did == []
    handover.forget_of(handed.folder.run_id)
    assert (did, handed.file.exists()) == (unloaded, False)


def test_it_says_beforehand_where_the_result_will_be(house):
    """By the run's id: after the handover no process of the run is there to say it."""
    at = house()
    left_behind(at)
    notes = [(n, one.text) for n, one in enumerate(at.steps) if one.phase is Phase.NOTE]
    paused = [n for n, one in enumerate(at.steps) if one.phase is Phase.PAUSED]
    ((number, said),) = notes
    (folder,) = (at.state_dir / "runs").iterdir()
    assert f"harness report {folder.name}" in said
    assert number < min(paused)
