"""The run, its guardian, or both die, at every phase: the guest runs again, its clock is mended.

Requires: the session's lab. Leaves behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import pytest

from harness.core.records import RunRecord
from harness.core.timebase import Deadline, NotYet, Stopwatch, wait_for
from harness.lab import state
from harness.results.unfinished import dead_runs
from tests.drills.conftest import PAUSED, RUNNING, becomes, state_of

#: Lines of the journal, in the order in which they are written.
PHASES = ["run started", "update domain", "pausing", "paused", "resuming", "resumed", "mended"]
QUICK = ("--duration", "1.5", "--budget", "8")


@pytest.mark.parametrize("inside", [0.0, 0.3], ids=["boundary", "inside"])
@pytest.mark.parametrize("phase", PHASES)
def test_sigkill_at_every_phase(maintenance, libvirt, lab, phase, inside):
    """No guest is paused a second later; `recover` mends the clock and completes the record."""
    guest = lab.guests[0]
    run = maintenance(guest.name, *QUICK)
    run.until(phase)
    Deadline.after(1).clock.sleep(inside)
    run.kill()
    watch = Stopwatch()
    assert run.ended() in (-signal.SIGKILL, 0)  # 0: it was over before we came
    becomes(libvirt, guest.uuid, RUNNING, within_s=2.0)
    assert watch.elapsed_s() < 5
    assert [s.get("name") for s in ET.parse(run.folder / "junit.xml").getroot()][0] == guest.name
    over = run.record.finished_at is not None  # its verdict was written before we came
    code, guests = run.recover()
    assert code == 0, guests
    assert [g["action"] for g in guests] in ([], ["runs already"])
    assert not list(dead_runs(run.state_dir))
    if not over:
        assert run.record.exit_code == 130
        assert run.record.finished_at is not None
    if phase not in ("run started", "update domain"):  # else perhaps it never was paused
        shown = run.command("clock", "show", guest.name, "-c", str(lab.config_file))
        assert shown.returncode == 0, shown.stdout
    assert run.recover() == (0, [])


def test_sigkill_of_its_process_group_is_answered_by_the_guardian(maintenance, libvirt, lab):
    """Its journal line says so, and the record says how long the pause was."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--duration", "20")
    run.until("paused")
    os.killpg(run.process.pid, signal.SIGKILL)
    run.until("resumed", by="guardian")
    becomes(libvirt, guest.uuid, RUNNING, within_s=1.0)
    run.ended()
    assert run.recover()[0] == 0
    assert 0 < run.record.guests[0].pause_window_s < 5
    clock = run.record.guests[0].clock.after_correction
    assert abs(clock.offset_s) + clock.uncertainty_s <= 0.050


def test_people_are_told_of_a_guest_that_its_guardian_cannot_resume(
    maintenance, libvirt, lab, tmp_path
):
    """The run is killed while libvirtd does not answer; the guest runs when that answers again."""
    guest, told = lab.guests[0], tmp_path / "told"
    script = tmp_path / "tell"
    script.write_text(f"#!/bin/sh\ncat >{told}.new && mv {told}.new {told}\n")
    script.chmod(0o755)
    config = lab.config_file.with_name("told.toml")  # its paths are relative to that folder
    text = lab.config_file.read_text()
    config.write_text(f'resume_patience_s = 1.0\n{text}\n[notify]\ncommand = ["{script}"]\n')
    run = maintenance(guest.name, "--update", "sleep 20", config=config)
    run.until("paused")
    libvirtd = state.load().daemons[-1].pid
    os.kill(libvirtd, signal.SIGSTOP)
    try:
        run.kill()
        wait_for(partial(_exists, told), what="a notice", deadline=Deadline.after(30))
    finally:
        os.kill(libvirtd, signal.SIGCONT)
    becomes(libvirt, guest.uuid, RUNNING, within_s=20.0)
    run.ended()
    notice = json.loads(told.read_text())
    assert (notice["event"], notice["run_id"]) == ("guests stranded", run.folder.name)
    [paused] = notice["guests"]
    assert (paused["name"], paused["still_paused"]) == (guest.name, True)
    assert paused["resume_hint"].endswith(f"resume {guest.name}")
    assert run.recover()[0] == 0
    config.unlink()


def _exists(file: Path) -> None:
    if not file.exists():
        raise NotYet(f"no {file}")


def test_a_dead_guardian_before_the_pause_means_no_pause(maintenance, libvirt, lab):
    """Exit 3; no event reached the guest."""
    guest = lab.guests[0]
    before = len(libvirt.events(guest.uuid))
    run = maintenance(guest.name, *QUICK)
    run.until("run started")
    os.kill(run.guardian, signal.SIGKILL)
    assert run.ended() == 3
    assert "guardian does not answer, so nothing was paused" in run.err
    assert len(libvirt.events(guest.uuid)) == before


def test_a_dead_guardian_in_the_window_ends_the_pause_at_once(maintenance, libvirt, lab):
    """The update is abandoned, the guest resumed and mended, exit 3."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--duration", "20")
    run.until("paused")
    os.kill(run.guardian, signal.SIGKILL)
    becomes(libvirt, guest.uuid, RUNNING, within_s=3.0)
    assert run.ended() == 3
    assert "the guardian died" in run.record.update_domains[0].problems[0]
    assert {c.name: c.outcome for c in run.record.guests[0].checks}["clock"] == "pass"


def kill_both(run) -> None:
    """The run and its guardian, so that neither gets to do anything about the other."""
    run.kill(signal.SIGSTOP)
    os.kill(run.guardian, signal.SIGKILL)
    run.kill()
    run.ended()


def test_both_die_and_recover_resumes_only_what_was_ours(maintenance, libvirt, lab):
    """A dry run changes nothing; a guest that somebody else paused is not touched."""
    ours, theirs = lab.guests[0], lab.guests[1]
    run = maintenance(ours.name, "--duration", "20")
    run.until("paused")
    kill_both(run)
    libvirt.pause(theirs.uuid, Deadline.after(10))
    try:
        assert state_of(libvirt, ours.uuid) is PAUSED
        found = run.command("doctor", "-c", str(lab.config_file))
        assert (
            found.stdout.count("harness recover, if a run of harness paused it; else virsh ") == 2
        )
        status = run.command("status", "-c", str(lab.config_file))
        assert status.returncode == 3
        name = run.folder.name
        said = f"run {name} ended unexpectedly; finish it with: harness recover"
        assert f"{said}\n  {ours.name}: paused for " in status.stdout
        assert f"paused, and held by no run: {theirs.name}\n" in status.stdout
        found = run.command("recover", "--dry-run")
        assert found.returncode == 3
        assert "was paused by this run" in found.stdout
        assert f"{theirs.name} is paused (user)" in found.stderr
        assert state_of(libvirt, ours.uuid) is PAUSED
        done = run.command("recover", "--json")
        told = json.loads(done.stdout)
        assert [g["action"] for g in told["runs"][0]["guests"]] == ["resumed"]
        assert [guest["name"] for guest in told["paused"]] == [theirs.name]
        assert done.returncode == 3  # whose that pause is, no journal tells
        assert state_of(libvirt, ours.uuid) is RUNNING
        assert state_of(libvirt, theirs.uuid) is PAUSED
    finally:
        libvirt.resume(theirs.uuid, Deadline.after(10))
    assert run.recover() == (0, [])
    assert run.command("clock", "correct", theirs.name, "-c", str(lab.config_file)).returncode == 0


def test_a_run_that_cannot_be_finished_keeps_recover_from_no_other(maintenance, libvirt, lab):
    """Two newer ones: the libvirt of one is not there, the journal of the other is damaged."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--duration", "20")
    run.until("paused")
    ours = run.folder
    kill_both(run)
    runs = ours.parent
    away, damaged = (shutil.copytree(ours, runs / f"9{n}{ours.name[2:]}") for n in (8, 9))
    config = json.loads((away / "config.json").read_text())
    config["uri"] = "qemu+unix:///system?socket=/nonexistent/sock"
    (away / "config.json").write_text(json.dumps(config))
    journal = damaged / "journal.jsonl"
    journal.write_text(journal.read_text().replace("{", "[", 1))  # its boot and who it was

    done = run.command("recover", "--json")
    assert done.returncode == 3
    assert state_of(libvirt, guest.uuid) is RUNNING
    told = {found["run_id"]: found for found in json.loads(done.stdout)["runs"]}
    # The damaged one is newer, and what can be read of it says the same: it is followed first.
    assert [g["action"] for g in told[damaged.name]["guests"]] == ["resumed"]
    assert [g["action"] for g in told[ours.name]["guests"]] == ["runs already"]
    assert told[ours.name]["error"] is None
    assert "/nonexistent/sock" in told[away.name]["error"]
    assert "line 1 is damaged" in told[damaged.name]["error"]
    assert done.stderr.count("is not finished") == 2
    assert "Traceback" not in done.stderr
    found = run.command("recover")  # they are told of until somebody has looked at them
    assert (found.returncode, found.stdout.count("NOT FINISHED")) == (3, 2)


def test_a_run_that_is_stopped_through_its_budget_is_relieved_by_the_guardian(
    maintenance, libvirt, lab
):
    """SIGSTOP at the pause: the guest runs before the budget is over, and the record tells."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--duration", "1", "--budget", "5", "--reserve", "2")
    run.until("paused")
    watch = Stopwatch()
    run.kill(signal.SIGSTOP)
    becomes(libvirt, guest.uuid, RUNNING, within_s=5.0)
    assert watch.elapsed_s() > 2, "it was the guardian's limit, not the run"
    run.until("resumed", by="guardian")
    run.kill(signal.SIGCONT)
    assert run.ended() == 3
    domain = run.record.update_domains[0]
    assert any("the guardian resumed guests" in problem for problem in domain.problems)
    assert domain.pause_window_s < 5
    checks = {c.name: c.outcome for c in run.record.guests[0].checks}
    assert checks["clock"] == "pass"


def test_a_run_points_to_what_a_dead_one_left(maintenance, lab, libvirt):
    """So does doctor; and both stop doing so after recover."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--duration", "20")
    run.until("paused")
    run.kill()
    run.ended()
    becomes(libvirt, guest.uuid, RUNNING, within_s=2.0)
    config = ("-c", str(lab.config_file))
    assert "harness recover" in run.command("doctor", *config).stdout
    assert "harness recover" in run.command("run", guest.name, *QUICK, *config).stderr
    assert run.recover()[0] == 0
    assert "harness recover" not in run.command("doctor", *config).stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_guardian_ignores_what_would_end_others(maintenance, lab, libvirt, number):
    """Signals do not end it: the run goes to its ordinary end."""
    run = maintenance(lab.guests[0].name, *QUICK)
    run.until("paused")
    os.kill(run.guardian, number)
    assert run.ended() == 0, run.err


@pytest.mark.parametrize("output", [[], ["--json"]], ids=["live view", "json"])
def test_a_terminal_that_is_closed(lab, libvirt, tmp_path, output):
    """HUP, and nothing can be written any more: resumed, mended, recorded, exit 130."""
    guest = lab.guests[0]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", guest.name, "--duration", "20", *output],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={**os.environ, "HARNESS_STATE_DIR": str(tmp_path), "HARNESS_URI": lab.uri},
        cwd=lab.config_file.parent,
    )
    os.close(theirs)
    becomes(libvirt, guest.uuid, PAUSED, within_s=60)
    os.close(ours)
    assert process.wait(timeout=60) == 130
    record = RunRecord.model_validate_json(next(tmp_path.glob("runs/*/run.json")).read_text())
    assert record.exit_code == 130
    end = record.guests[0].clock.after_correction
    assert abs(end.offset_s) + end.uncertainty_s <= 0.050


def test_a_detached_run_outlives_the_terminal_and_is_found_again(lab, libvirt, tmp_path):
    """The terminal dies in the pause: the run passes, and the same command tells its record."""
    guest = lab.guests[0]
    same = [sys.executable, "-m", "harness", "run", guest.name, "--duration", "4"]
    same += ["--no-report", "--rollout", "night 1", "--detach", "--json"]
    there = {
        "env": {**os.environ, "HARNESS_STATE_DIR": str(tmp_path), "HARNESS_URI": lab.uri},
        "cwd": lab.config_file.parent,
    }
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        same,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        **there,
    )
    os.close(theirs)
    becomes(libvirt, guest.uuid, PAUSED, within_s=60)
    os.close(ours)
    assert process.wait(timeout=10) == -signal.SIGHUP
    assert state_of(libvirt, guest.uuid) is PAUSED
    found = subprocess.run(same, capture_output=True, text=True, timeout=90, **there)
    answer = json.loads(found.stdout)
    assert (found.returncode, answer["outcome"]) == (0, "pass"), (answer, found.stderr)
    assert len(list(tmp_path.glob("runs/*"))) == 1
    again = subprocess.run(same, capture_output=True, text=True, timeout=30, **there)
    told = json.loads(again.stdout)
    assert (told["already"], told["record"]) == (True, answer["record"])
    assert state_of(libvirt, guest.uuid) is RUNNING
