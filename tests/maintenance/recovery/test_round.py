"""All dead runs of a machine: found by their journals alone, and what is said of all guests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from harness import api
from harness.cli.commands.recover import _exit_code
from harness.cli.recovery_words import summary, told
from harness.core import paths
from harness.core.errors import GuestStranded, HypervisorError, Interrupted
from harness.core.records import Outcome
from harness.core.settings import Config
from harness.host import ram_links
from harness.host.lifecycle import GuestState
from harness.host.lock import lock_file
from harness.maintenance.recovery import round as recovery_round
from harness.maintenance.recovery.record import Action
from harness.maintenance.recovery.round import Recovery
from harness.results.folder import CONFIG, RECORD, RunFolder
from harness.results.journal import FILE_NAME, Journal
from harness.results.unfinished import dead_runs
from tests.maintenance.conftest import House
from tests.maintenance.recovery.test_recover import killed


@pytest.fixture
def recovered(monkeypatch):
    """``recovered(house)``: ``harness recover`` of its state folder, or with ``None`` of all."""

    def recover(at: House, state_dir: Path | None = None, **options) -> Recovery:
        def connect(config: Config):
            asked.append(config.uri)
            if at.host.away:
                raise HypervisorError("libvirt is not there", operation="connecting")
            return nullcontext(at.host)

        asked: list[str] = []
        backend = api.Backend(connect=connect, connector=at.connector)
        return api.recover(state_dir or at.state_dir, backend=backend, **options)

    return recover


def code_of(found: Recovery) -> int:
    """What the command ends with."""
    try:
        return _exit_code(found)
    except (GuestStranded, Interrupted) as error:
        return error.exit_code


def names(found: Recovery) -> dict[str, Action]:
    return {g.member.name: g.action for run in found.runs for g in run.guests}


BOTH_RESUMED = {"web1": Action.RESUMED, "web2": Action.RESUMED}


def without_record(folder: RunFolder) -> None:
    (folder.path / RECORD).unlink()


def record_of_nonsense(folder: RunFolder) -> None:
    (folder.path / RECORD).write_text("[]")


def without_config(folder: RunFolder) -> None:
    (folder.path / CONFIG).unlink()


def config_of_nonsense(folder: RunFolder) -> None:
    (folder.path / CONFIG).write_text("{")


def with_a_newer_key(folder: RunFolder) -> None:
    config = json.loads((folder.path / CONFIG).read_text())
    config |= {"teleport": True}
    config["clock"] |= {"methods": ["by-thought"]}
    (folder.path / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    "lack",
    [without_record, record_of_nonsense, without_config, config_of_nonsense, with_a_newer_key],
)
def test_nothing_but_the_journal_and_libvirt_is_needed_to_resume(house, recovered, lack):
    """What is missing is told, and the run is finished."""
    at = house()
    folder = killed(at)
    lack(folder)
    found = recovered(at)
    assert names(found) == BOTH_RESUMED
    assert at.running == ["web1", "web2"]
    (run,) = found.runs
    assert run.error is None
    assert run.notes
    assert all(str(folder.path) in note for note in run.notes)
    assert [g.clock_verdict for g in run.guests] == [Outcome.PASS] * 2
    assert list(dead_runs(at.state_dir)) == []
    assert any(run.notes[0] in line for line in told(found))


ODD = [
    b"[]",
    b"\xff\x00",
    b'{"event": "pausing", "guests": [{"name": "\\ud800", "uuid": "uuid-odd"}]}',
    b'{"event": "paused", "guest": "x", "uuid": "", "vcpu_ns": -1' + b"0" * 400 + b"}",
    b'{"event": "resuming", "by": "guardian", "guests": [{"name": "web1", "uuid": "no uuid"}]}',
    b'{"event": "teleported", "guest": "web1", "uuid": "uuid-web1"}',
    b'{"event": "paused", "version": 99}',
    b'{"event": "armed", "limit_s": 1e999}',
    b'{"event": "mended", "guest": "web1", "uuid": "uuid-web1", "boottime_ns": 1'
    + b"0" * 400
    + b"}",
]


@pytest.mark.parametrize("line", ODD)
@pytest.mark.parametrize("where", ["first", "last"])
def test_no_odd_line_ends_a_recovery(house, recovered, line, where):
    """Guests are resumed, nothing is raised, and the next recovery is not ended by it either."""
    at = house()
    folder = killed(at)
    journal = folder.path / FILE_NAME
    told = journal.read_bytes()
    journal.write_bytes(line + b"\n" + told if where == "first" else told + line + b"\n")
    found = recovered(at)
    assert at.running == ["web1", "web2"]
    assert {"web1", "web2"} <= names(found).keys()
    again = recovered(at)
    assert at.running == ["web1", "web2"]
    assert code_of(again) in (0, 3)


def test_one_run_that_cannot_be_finished_keeps_no_guest_of_another_paused(house):
    """Also where what goes wrong is a bug: here of what opens the libvirt that the run was of."""
    at = house("web1")
    folder = killed(at)
    twin = folder.path.with_name("9" + folder.run_id[1:])
    shutil.copytree(folder.path, twin)
    elsewhere = json.loads((twin / CONFIG).read_text()) | {"uri": "test:///elsewhere"}
    (twin / CONFIG).write_text(json.dumps(elsewhere))

    def connect(config: Config):
        if config.uri == "test:///elsewhere":
            bug()
        return nullcontext(at.host)

    found = api.recover(at.state_dir, backend=api.Backend(connect, at.connector))
    assert at.running == ["web1"]
    errors = {run.folder.run_id: str(run.error) for run in found.runs}
    assert "ZeroDivisionError" in errors[twin.name]
    assert errors[folder.run_id] == "None"
    assert [uri for uri, _ in found.not_looked_at] == ["test:///elsewhere"]
    assert code_of(found) == 3


def test_a_bug_in_the_last_look_takes_nothing_from_what_was_done(house, recovered):
    """The guests were resumed and their clocks corrected: that is told, and the bug beside it."""
    at = house()
    killed(at)
    at.host.before["guests", ""] = bug
    found = recovered(at)
    assert names(found) == BOTH_RESUMED
    assert ["ZeroDivisionError: a bug" in str(error) for _, error in found.not_looked_at] == [True]
    assert code_of(found) == 3


def bug() -> None:
    raise ZeroDivisionError("a bug")


def test_all_guests_are_resumed_before_the_first_clock_is_corrected(house, recovered):
    """A login may take its time."""
    at = house()
    killed(at)
    at.connector.before["web1"] = lambda: seen.append(at.running)
    seen: list[list[str]] = []
    recovered(at)
    assert seen == [["web1", "web2"]]


def test_a_journal_that_is_empty_says_nothing_of_guests_and_they_are_looked_at(house, recovered):
    """A fault took it. The guests are named, and nobody claims that the run had paused none."""
    at = house()
    folder = killed(at)
    os.truncate(folder.path / FILE_NAME, 0)
    found = recovered(at)
    assert [run.guests for run in found.runs] == [()]
    assert [guest.name for guest in found.paused] == ["web1", "web2"]
    assert "2 guests are paused now" in summary(found)
    assert code_of(found) == 3


# -- other folders


def test_a_run_in_another_known_folder_is_found(house, recovered, tmp_path, monkeypatch):
    """It was kept elsewhere: by another variable, or by the user's default."""
    at = house()
    killed(at)
    elsewhere = tmp_path / "chosen"
    monkeypatch.setenv("HARNESS_STATE_DIR", str(elsewhere))
    monkeypatch.setattr(paths, "known_state_dirs", lambda: (elsewhere, at.state_dir))
    found = everywhere(at)
    assert names(found) == BOTH_RESUMED
    assert [one.state_dir for one in found.searched][:2] == [elsewhere, at.state_dir]


def test_a_folder_that_the_lock_of_the_host_has_noted_is_searched(
    house, recovered, tmp_path, monkeypatch
):
    """A run with a HARNESS_STATE_DIR of its own, recovered without that."""
    at = house()
    killed(at)
    noted = lock_file("qemu:///system")
    lock_file(at.host.uri).rename(noted)
    monkeypatch.setattr(paths, "known_state_dirs", lambda: (tmp_path / "chosen",))
    found = everywhere(at)
    assert names(found) == BOTH_RESUMED


def everywhere(at: House, **options) -> Recovery:
    backend = api.Backend(connect=lambda config: nullcontext(at.host), connector=at.connector)
    return api.recover(backend=backend, **options)


def test_a_run_elsewhere_whose_guests_are_not_known_here_is_not_touched(
    house, tmp_path, monkeypatch
):
    """It may be of another libvirt: that this one does not know them is no ending."""
    at = house()
    folder = killed(at)
    at.host.states.clear()
    monkeypatch.setattr(paths, "known_state_dirs", lambda: (tmp_path / "chosen", at.state_dir))
    found = everywhere(at)
    assert found.runs == ()
    assert [one.run_id for one in found.not_followed] == [folder.run_id]
    assert folder.record().finished_at is None
    assert [one.run_id for one in dead_runs(at.state_dir)] == [folder.run_id]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_another_users_journal_is_told_of_and_not_followed(house, tmp_path, monkeypatch):
    """It may say anything. What is said: who it is, and how that user recovers it; exit 4."""
    at = house()
    folder = killed(at)
    monkeypatch.delenv("SUDO_UID", raising=False)
    for path in (at.state_dir, *at.state_dir.rglob("*")):
        os.chown(path, 12345, 12345)
    monkeypatch.setattr(paths, "known_state_dirs", lambda: (tmp_path / "chosen", at.state_dir))
    found = everywhere(at)
    assert at.running == []
    assert found.runs == ()
    assert found.still_paused == ["web1", "web2"]
    lines = list(told(found))
    assert any(f"held by dead run {folder.run_id} of #12345" in line for line in lines)
    assert any(f"env HARNESS_STATE_DIR={at.state_dir} harness recover" in line for line in lines)
    assert code_of(found) == 4


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775])
def test_where_others_may_lay_a_run_none_is_followed(house, tmp_path, monkeypatch, mode):
    """Its configuration would say to which libvirt to connect, and by which program."""
    at = house()
    folder = killed(at)
    (at.state_dir / "runs").chmod(mode)
    if mode == 0o775:  # of a group that nobody knows
        if os.geteuid() != 0:
            pytest.skip("gives a folder away")
        os.chown(at.state_dir / "runs", -1, 61234)
    monkeypatch.setattr(paths, "known_state_dirs", lambda: (tmp_path / "chosen", at.state_dir))
    found = everywhere(at)
    assert found.runs == ()
    assert [one.run_id for one in found.not_followed] == [folder.run_id]


def test_a_folder_that_cannot_be_searched_is_named(house, monkeypatch, tmp_path):
    """What is in it is not known."""
    at = house()
    private = tmp_path / "private"
    listed = os.listdir

    def listdir(path):
        if str(path).startswith(str(private)):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    monkeypatch.setattr(paths, "known_state_dirs", lambda: (at.state_dir, private))
    found = everywhere(at)
    assert f"not searched: {private}: Permission denied" in list(told(found))
    assert str(private) not in summary(found)


def test_a_folder_that_hangs_keeps_no_guest_paused(house, monkeypatch, tmp_path):
    """A home on a disk that does not answer: guests are resumed first, then it is given up."""
    at = house()
    killed(at)
    hung, over = tmp_path / "hung", threading.Event()
    seen: list[list[str]] = []
    listed = os.listdir

    def listdir(path):
        if str(path).startswith(str(hung)):
            seen.append(at.running)
            over.wait(30)
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    monkeypatch.setattr(recovery_round, "_SEARCH_S", 0.2)
    monkeypatch.setattr(paths, "state_dir", lambda: at.state_dir)
    monkeypatch.setattr(paths, "known_state_dirs", lambda: (at.state_dir, hung))
    try:
        found = everywhere(at)
    finally:
        over.set()
    assert seen == [["web1", "web2"]]
    assert names(found) == BOTH_RESUMED
    (line,) = [line for line in told(found) if str(hung) in line]
    assert "not searched" in line
    assert "searching it took longer" in line


# -- what is said in the end


def test_a_guest_that_no_journal_knows_is_named_and_not_resumed(house, recovered):
    """Where was searched, and the line that resumes it: it is somebody's decision. Exit 3."""
    at = house()
    at.host.states["web2"] = GuestState.PAUSED
    found = recovered(at)
    (guest,) = found.paused
    assert (guest.name, at.host.states["web2"]) == ("web2", GuestState.PAUSED)
    lines = list(told(found))
    assert "no journal that was searched knows it" in lines[0]
    assert "virsh -c fake:/// resume web2" in lines[1]
    assert f"no dead runs in {at.state_dir}; 1 guest is paused now" in summary(found)
    assert code_of(found) == 3


def test_a_guest_that_a_finished_run_knows_is_said_to_be_anothers(house, recovered):
    """The run let it go."""
    at = house()
    finished = at.maintain()
    at.host.states["web1"] = GuestState.PAUSED
    (guest,) = recovered(at).paused
    assert f"run {finished.folder.run_id} had paused it, and it was resumed" in guest.known


def test_a_guest_that_a_living_run_holds_is_said_to_be(house, recovered):
    """It is that run's to resume."""
    at = house()
    folder = killed(at)
    with Journal(folder.path, folder.run_id):
        found = recovered(at)
    assert found.runs == ()
    assert {guest.known for guest in found.paused} == {
        f"run {folder.run_id} holds it, and has not died"
    }


def test_nothing_is_said_of_guests_that_were_not_looked_at(house, recovered):
    """libvirt is not there: exit 3, and no word that none is paused."""
    at = house()
    at.host.away = True
    found = recovered(at)
    assert "no guest was looked at" in summary(found)
    assert "paused now" not in summary(found)
    assert any("qemu:///system were not looked at: libvirt is not" in line for line in told(found))
    assert code_of(found) == 3


def test_where_everything_was_looked_at_and_nothing_is_paused_that_is_said(house, recovered):
    """And exit 0."""
    at = house()
    found = recovered(at)
    assert summary(found) == (
        f"no dead runs in {at.state_dir}; no guest is paused now (looked at all of qemu:///system)"
    )
    assert code_of(found) == 0


def test_a_guest_that_was_resumed_and_is_paused_in_the_end_is_not_called_running(house, recovered):
    """Another program paused it while clocks were corrected."""
    at = house()
    killed(at)
    at.connector.before["web2"] = lambda: at.host.states.update(web1=GuestState.PAUSED)
    found = recovered(at)
    assert [guest.name for guest in found.paused] == ["web1"]
    assert "2 guests resumed; 1 guest is paused now" in summary(found)
    assert code_of(found) == 3


def test_a_dry_run_changes_nothing_and_names_what_is_not_ours(house, recovered):
    """What it would resume is not named as another's."""
    at = house("web1", "web2", "web3")
    folder = killed(at)
    journal = (folder.path / FILE_NAME).read_bytes()
    found = recovered(at, dry_run=True)
    assert names(found) == {"web1": Action.RESUMED, "web2": Action.RESUMED, "web3": Action.RESUMED}
    assert (found.paused, at.running) == ((), [])
    assert (folder.path / FILE_NAME).read_bytes() == journal


@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_lets_the_rescue_be_finished_and_ends_what_comes_after(house, recovered, times):
    """Exit 130, and what was looked at is said; the next recovery corrects the clocks."""
    at = house()
    folder = killed(at)

    def interrupt() -> None:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)

    at.host.before["resume", "web1"] = interrupt
    found = recovered(at)
    assert at.running == ["web1", "web2"]
    assert found.signal_name == "SIGINT"
    assert len(at.connector.logins) == 2  # the run's, and no more
    assert "2 guests resumed; no guest is paused now (looked at all of" in summary(found)
    assert code_of(found) == 130
    assert [one.run_id for one in dead_runs(at.state_dir)] == [folder.run_id]
    at.host.before.clear()
    assert code_of(recovered(at)) == 0
    assert list(dead_runs(at.state_dir)) == []


def test_a_signal_does_not_hide_a_guest_that_is_still_paused(house, recovered):
    """Exit 4 comes first."""
    at = house("web1", resume_patience_s=0.3)
    killed(at)

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise HypervisorError("refused", operation="resuming")

    at.host.before["resume", "web1"] = interrupt
    found = recovered(at)
    assert (found.signal_name, found.still_paused) == ("SIGTERM", ["web1"])
    assert code_of(found) == 4
    assert "1 guest is paused now" in summary(found)


def test_ram_that_was_kept_and_forgotten_is_told(house, recovered, tmp_path, monkeypatch):
    """It is memory that nobody can use, and no run says so any more."""
    ram = tmp_path / "ram"
    ram.mkdir()
    keep = ram_links.keep_folder(ram, "uuid-of-nobody")
    ram_links.make_keep(keep)
    (keep / "ram/pc.ram").write_bytes(b"x" * (2 << 20))
    monkeypatch.setattr("harness.maintenance.recovery.kept_ram.backing_folder", lambda: ram)
    found = recovered(house("web1"))
    (note,) = [one for one in found.notes if "kept" in one]
    assert "2 MiB of RAM are kept for guest uuid-of-nobody" in note
    assert note in list(told(found))
    assert keep.exists()
