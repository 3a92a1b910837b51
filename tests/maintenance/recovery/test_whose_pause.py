"""Whose pause is it, on a host in memory: what recover resumes, what it leaves alone, and says."""

from __future__ import annotations

import json

import pytest

from harness.core.identity import boot_id
from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState
from harness.host.protocol import ProcessIdentity
from harness.maintenance.recovery.record import Action
from harness.maintenance.resume_hint import resume_hint
from harness.results.folder import RunFolder
from harness.results.journal import FILE_NAME, Member, read
from harness.results.journal.entries import Recovered, TakenOver
from harness.results.unfinished import dead_runs
from tests.maintenance.conftest import House, of
from tests.maintenance.recovery.test_recover import actions, finish, killed

S = 1_000_000_000
ANOTHER = ProcessIdentity(1 << 22 | 99, 7)


def seen(at: House, vcpu_ns: int = 0) -> None:
    """Have the CPU time of every guest's vCPUs seen."""
    at.host.vcpu_ns = {one.pid: vcpu_ns for one in (*at.host.processes.values(), ANOTHER)}


def ran(at: House, nanoseconds: int) -> None:
    """Guest web1 has run for so long."""
    assert at.host.vcpu_ns is not None
    at.host.vcpu_ns[at.host.processes["web1"].pid] += nanoseconds


def restarted(at: House, *, restored: bool, vcpu_ns: int = 0) -> None:
    """Guest web1 lives in another process and is paused."""
    at.host.processes["web1"] = ANOTHER
    at.host.vcpu_ns = {ANOTHER.pid: vcpu_ns}
    at.host.restorations = {ANOTHER} if restored else set()
    at.host.states["web1"] = GuestState.PAUSED


def booted(folder: RunFolder) -> None:
    """The host was booted since the run."""
    journal = folder.path / FILE_NAME
    journal.write_text(journal.read_text().replace(boot_id(), "another-boot"))


def without_line(folder: RunFolder, *events: str) -> None:
    """The run died before it could write these."""
    path = folder.path / FILE_NAME
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["event"] not in events))


def test_what_was_resumed_by_hand_and_paused_again_is_not_resumed(house):
    """Its vCPUs have run since our pause: it is said to be paused, and by whom."""
    at = house()
    seen(at)
    folder = killed(at)
    ran(at, S)
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.LEFT_ALONE, "web2": Action.RESUMED}
    assert at.running == ["web2"]
    assert recovered.paused == ["web1"]
    assert recovered.guests[0].resume_hint == "virsh -c fake:/// resume web1"
    assert "its vCPUs have run for 1.000 s since the run paused it" in recovered.guests[0].why
    record = folder.record()
    assert (record.exit_code, of(record, "web1").still_paused) == (4, True)
    assert list(dead_runs(at.state_dir)) == []  # nothing of it is left to do for recover


@pytest.mark.parametrize("ran_s", [1, 30])
def test_a_run_that_died_before_it_wrote_that_it_had_paused_is_judged_by_its_intent(house, ran_s):
    """The guest may have run on until the pause, but no longer than the guardian's limit."""
    at = house("web1")
    seen(at)
    folder = killed(at)
    without_line(folder, "paused")
    ran(at, ran_s * S)
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.RESUMED if ran_s == 1 else Action.LEFT_ALONE}


def test_without_any_evidence_it_is_ours_to_resume(house):
    """The journal is of a harness that did not look, or nothing of QEMU can be seen."""
    at = house("web1")
    folder = killed(at)
    without_line(folder, "paused")
    at.host.processes.clear()
    assert actions(finish(at, folder)) == {"web1": Action.RESUMED}


def test_a_guest_that_its_owner_started_paused_is_left_alone(house):
    """Another process, which was not restored from disk: another life."""
    at = house("web1")
    seen(at)
    folder = killed(at)
    restarted(at, restored=False)
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.LEFT_ALONE}
    assert "started it since the run paused it" in recovered.guests[0].why
    assert recovered.paused == ["web1"]


@pytest.mark.parametrize("reboot", [False, True])
def test_a_guest_that_was_saved_while_we_held_it_and_comes_back_paused_is_resumed(house, reboot):
    """virsh managedsave and start; or the host was booted, and restored it as it was."""
    at = house("web1")
    seen(at)
    folder = killed(at)
    restarted(at, restored=True, vcpu_ns=1_000_000)
    if reboot:
        booted(folder)
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.RESUMED}
    assert "restored paused, and has not run since" in recovered.guests[0].why
    assert at.running == ["web1"]
    assert abs(at.guests[0].offset_s) < 0.03
    assert (of(folder.record(), "web1").pause_window_s is None) is reboot


def test_a_guest_that_was_saved_and_has_run_since_it_was_restored_is_left_alone(house):
    """Another program resumed it, and paused it again."""
    at = house("web1")
    seen(at)
    folder = killed(at)
    restarted(at, restored=True, vcpu_ns=S)
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.LEFT_ALONE}
    assert "has run since it was restored" in recovered.guests[0].why


def test_a_guest_that_is_on_disk_is_held_until_it_was_started_again(house):
    """It is told what helps; the run stays dead; then it is resumed."""
    at = house("web1")
    seen(at)
    folder = killed(at)
    at.host.states["web1"], at.host.reasons["web1"] = GuestState.SHUT_OFF, "saved"
    at.host.processes["web1"], before = None, at.host.processes["web1"]
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.SAVED}
    assert (recovered.stranded, recovered.paused) == (["web1"], ["web1"])
    hint = "virsh -c fake:/// start web1 (comes back as it was saved)"
    assert recovered.guests[0].resume_hint == hint
    assert (folder.record().exit_code, of(folder.record(), "web1").still_paused) == (4, True)
    assert [dead.run_id for dead in dead_runs(at.state_dir)] == [folder.run_id]
    at.host.reasons.clear()
    restarted(at, restored=True)
    assert before != ANOTHER
    assert actions(finish(at, folder)) == {"web1": Action.RESUMED}
    assert of(folder.record(), "web1").still_paused is False
    assert list(dead_runs(at.state_dir)) == []


def test_a_guest_whose_saved_memory_was_thrown_away_has_ended(house):
    """virsh managedsave-remove: nothing of it is held any more."""
    at = house("web1")
    folder = killed(at)
    at.host.states["web1"], at.host.reasons["web1"] = GuestState.SHUT_OFF, "saved"
    finish(at, folder)
    at.host.reasons.clear()
    assert actions(finish(at, folder)) == {"web1": Action.ENDED}


def test_another_libvirt_than_the_runs_sees_no_guest_end(house):
    """recover --uri of another host: that it does not know the guest ends nothing."""
    at = house("web1")
    folder = killed(at)
    del at.host.states["web1"]
    at.host.uri = "qemu+ssh://other/system"
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.UNSEEN}
    assert "does not know it; the run paused it on fake:///" in str(recovered.error)
    assert [dead.run_id for dead in dead_runs(at.state_dir)] == [folder.run_id]


def test_a_guest_that_was_migrated_while_we_held_it_has_not_ended(house):
    """Not known to run is still paused; the other host is looked at by its URI."""
    at = house("web1")
    folder = killed(at)
    at.host.states["web1"], at.host.reasons["web1"] = GuestState.SHUT_OFF, "migrated"
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.AWAY}
    assert "migrated to another host while the run held it" in recovered.guests[0].why
    assert (recovered.paused, recovered.error) == (["web1"], None)
    assert [dead.run_id for dead in dead_runs(at.state_dir)] == [folder.run_id]


def test_nobody_is_told_to_start_a_guest_again_whose_process_lives(house):
    """Two QEMUs would write to its disks. One whose process has ended is defined again."""
    at = house("web1")
    del at.host.states["web1"]
    web1, until = Member("web1", "uuid-web1"), Deadline.after(5)
    assert "define it again" in resume_hint(web1, at.host, until)
    at.host.living = {at.host.processes["web1"]}
    hint = resume_hint(web1, at.host, until)
    assert "socat - UNIX-CONNECT:" in hint
    assert "again" not in hint
    at.host.monitor = lambda process: None
    assert "do not start it again" in resume_hint(web1, at.host, until)


@pytest.mark.parametrize("restored", [True, False])
def test_a_guest_that_was_restored_is_not_said_to_be_at_work_with_libvirt(house, restored):
    """libvirt goes on to say "migration" of it."""
    at = house("web1")
    restarted(at, restored=restored)
    at.host.reasons["web1"] = "migration"
    hint = resume_hint(Member("web1", "uuid-web1"), at.host, Deadline.after(5))
    assert (hint == "virsh -c fake:/// resume web1") is restored


@pytest.mark.parametrize("lives", [True, False])
def test_a_guest_that_libvirt_has_lost_is_paused_while_its_process_lives(house, lives):
    """The kernel is asked, not inferred from libvirt's silence."""
    at = house("web1")
    seen(at)
    folder = killed(at)
    at.host.living = {at.host.processes["web1"]} if lives else set()
    del at.host.states["web1"]
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.LOST if lives else Action.ENDED}
    assert recovered.paused == (["web1"] if lives else [])
    assert bool(list(dead_runs(at.state_dir))) is lives
    if lives:
        pid = at.host.processes["web1"].pid
        assert f"its QEMU process {pid} lives, paused" in recovered.guests[0].why
        assert f"| socat - UNIX-CONNECT:/monitors/{pid}" in recovered.guests[0].resume_hint


def test_a_guest_that_libvirt_has_lost_and_that_runs_is_not_called_paused(house):
    """Its vCPUs have run since."""
    at = house("web1")
    seen(at)
    folder = killed(at)
    at.host.living = {at.host.processes["web1"]}
    ran(at, S)
    del at.host.states["web1"]
    recovered = finish(at, folder)
    assert (actions(recovered), recovered.paused) == ({"web1": Action.LEFT_ALONE}, [])
    assert "has run since" in recovered.guests[0].why


@pytest.mark.parametrize("restored", [True, False])
def test_a_guest_that_runs_after_the_host_was_booted(house, restored):
    """Restored from disk, its clock is as stale as it was saved; booted anew, it is its own."""
    at = house("web1")
    seen(at)
    folder = killed(at)
    booted(folder)
    restarted(at, restored=restored, vcpu_ns=S)
    at.host.resume("uuid-web1", None)
    recovered = finish(at, folder)
    (guest,) = recovered.guests
    assert guest.action is (Action.RUNS if restored else Action.LEFT_ALONE)
    assert (guest.clock is not None) is restored
    assert recovered.paused == []


def test_a_guest_that_is_paused_after_the_host_was_booted_is_said_to_be(house):
    """It was started paused since: not our memory."""
    at = house("web1")
    seen(at)
    folder = killed(at)
    booted(folder)
    restarted(at, restored=False)
    recovered = finish(at, folder)
    assert (actions(recovered), recovered.paused) == ({"web1": Action.LEFT_ALONE}, ["web1"])
    assert folder.record().exit_code == 4


def test_the_boot_of_this_machine_says_nothing_of_a_guest_of_another_host(house):
    """The runner was booted; the guests' host was not."""
    at = house("web1")
    folder = killed(at)
    booted(folder)
    journal = folder.path / FILE_NAME
    journal.write_text(journal.read_text().replace("fake:///", "qemu+ssh://host/system"))
    at.host.processes.clear()
    without_line(folder, "paused", "pausing")
    assert actions(finish(at, folder)) == {"web1": Action.RESUMED}


@pytest.mark.parametrize("event", ["taken over", "resumed", "ended"])
def test_a_guest_that_we_had_let_go_and_that_is_paused_is_said_to_be(house, event):
    """Whoever paused it: it is not silently left alone."""
    at = house("web1")
    folder = killed(at)
    with open(folder.path / FILE_NAME, "a") as journal:
        told = {"event": event, "guest": "web1", "uuid": "uuid-web1", "by": "guardian"}
        journal.write(json.dumps(told) + "\n")
    recovered = finish(at, folder)
    assert (actions(recovered), recovered.paused) == ({"web1": Action.LEFT_ALONE}, ["web1"])
    assert at.running == []
    assert folder.record().exit_code == 4


def test_little_patience_calls_no_running_guest_paused(house):
    """It was seen to run."""
    at = house("web1")
    folder = killed(at)
    without_line(folder, "paused")
    at.host.resume("uuid-web1", None)
    recovered = finish(at, folder, resume_patience_s=0.1)
    assert (actions(recovered), recovered.paused) == ({"web1": Action.RUNS}, [])


def test_a_guest_that_another_program_resumes_meanwhile_is_looked_at_again(house):
    """The call that was to resume it fails; it runs, and is said to."""
    at = house("web1")
    folder = killed(at)

    def resumed_by_another() -> None:
        at.host.before.clear()
        at.host.resume("uuid-web1", None)
        at.host.away = True

    at.host.before["resume", "web1"] = resumed_by_another
    at.host.before["state", "web1"] = lambda: None
    recovered = finish(at, folder, resume_patience_s=0.2)
    assert actions(recovered) == {"web1": Action.STRANDED}  # nobody saw it run
    at.host.away = False
    assert actions(finish(at, folder)) == {"web1": Action.RUNS}


def test_what_was_found_out_is_in_the_journal(house):
    """For who comes next."""
    at = house("web1")
    seen(at)
    folder = killed(at)
    ran(at, S)
    finish(at, folder)
    *_, told, recovered = read(folder.path / FILE_NAME).entries
    assert told == TakenOver("web1", "uuid-web1", "recover")
    assert recovered == Recovered({"web1": "left alone"})
