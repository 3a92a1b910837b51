"""`harness recover` needs nothing but a journal and libvirt, resumes what is ours, and looks.

Requires: the session's lab. Leaves behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.host.lock import lock_file
from harness.results.journal import in_use
from tests.clocks import set_right
from tests.drills.conftest import PAUSED, RUNNING, Maintenance, becomes, state_of
from tests.drills.test_death import kill_both

LONG = ("--duration", "20")


@pytest.fixture
def dead(maintenance, libvirt, lab):
    """A run that was killed with its guardian: guest tiny-1 is paused, and held by its journal."""
    run = maintenance(lab.guests[0].name, *LONG)
    run.until("paused")
    kill_both(run)
    assert state_of(libvirt, lab.guests[0].uuid) is PAUSED
    yield run
    until = Deadline.after(10)
    if libvirt.state(lab.guests[0].uuid, until).state is PAUSED:
        libvirt.resume(lab.guests[0].uuid, until)
    set_right([lab.guests[0].name], lab.config_file)


def without_record(run: Maintenance) -> None:
    (run.folder / "run.json").unlink()


def without_config(run: Maintenance) -> None:
    (run.folder / "config.json").unlink()


def with_a_newer_key(run: Maintenance) -> None:
    config = json.loads((run.folder / "config.json").read_text())
    (run.folder / "config.json").write_text(json.dumps(config | {"teleport": {"to": "mars"}}))


@pytest.mark.parametrize("lack", [without_record, without_config, with_a_newer_key])
def test_what_else_is_missing_keeps_no_guest_paused(dead, libvirt, lab, lack):
    """Only where the configuration is gone nobody can log in to correct the clock: exit 3."""
    lack(dead)
    done = dead.command("recover", "--json")
    told = json.loads(done.stdout)
    (run,) = told["runs"]
    assert [guest["action"] for guest in run["guests"]] == ["resumed"]
    assert run["notes"]
    assert state_of(libvirt, lab.guests[0].uuid) is RUNNING
    assert told["paused"] == []
    clock = run["guests"][0]["clock_outcome"]
    assert (done.returncode, clock) == ((3, "error") if lack is without_config else (0, "pass"))
    assert dead.recover() == (0, [])


def elsewhere(run: Maintenance, folder: Path) -> subprocess.CompletedProcess:
    """``harness recover`` with another state folder."""
    return subprocess.run(
        [sys.executable, "-m", "harness", "recover", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HARNESS_STATE_DIR": str(folder), "HARNESS_NO_REPORT": "1"},
    )


def test_a_run_is_found_from_another_state_folder(dead, libvirt, lab, tmp_path):
    """The host's lock has noted where runs were kept."""
    done = elsewhere(dead, tmp_path / "other")
    assert done.returncode == 0, done.stderr
    assert [run["run_id"] for run in json.loads(done.stdout)["runs"]] == [dead.folder.name]
    assert state_of(libvirt, lab.guests[0].uuid) is RUNNING


def test_a_paused_guest_that_no_journal_knows_is_named(dead, libvirt, lab, tmp_path):
    """Not resumed, and not passed over: exit 3, with the folders that were searched."""
    lock_file(lab.uri).write_bytes(b"")
    done = elsewhere(dead, tmp_path / "other")
    told = json.loads(done.stdout)
    assert (done.returncode, told["runs"]) == (3, [])
    (guest,) = told["paused"]
    assert (guest["name"], guest["known"]) == (
        lab.guests[0].name,
        "no journal that was searched knows it",
    )
    assert str(tmp_path / "other") in told["searched"]
    assert f"virsh -c {lab.uri} resume {lab.guests[0].name}" in done.stderr
    assert state_of(libvirt, lab.guests[0].uuid) is PAUSED
    assert dead.recover()[0] == 0


ODD = [
    b"[]",
    b"\xff",
    b'{"event": "pausing", "guests": [{"name": "\\ud800", "uuid": "no uuid"}]}',
    b'{"event": "mended", "guest": "x", "uuid": "", "boottime_ns": 1' + b"0" * 400 + b"}",
]


def test_odd_lines_end_no_recovery(dead, libvirt, lab):
    """Neither this one nor the next."""
    journal = dead.folder / "journal.jsonl"
    first, rest = journal.read_bytes().split(b"\n", 1)
    journal.write_bytes(b"\n".join([first, *ODD, rest]))
    for _ in range(2):
        done = dead.command("recover", "--json")
        assert state_of(libvirt, lab.guests[0].uuid) is RUNNING
        assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
        assert "bug of harness" not in done.stderr
    assert "line 2 is no object" in json.loads(done.stdout)["runs"][0]["error"]


def test_what_was_resumed_by_hand_and_paused_again_is_left_alone(dead, libvirt, lab):
    """The vCPUs' time tells. It is said to be paused: exit 4."""
    guest = lab.guests[0]
    libvirt.resume(guest.uuid, Deadline.after(5))
    SYSTEM_CLOCK.sleep(1.0)
    libvirt.pause(guest.uuid, Deadline.after(5))
    done = dead.command("recover", "--json")
    (told,) = json.loads(done.stdout)["runs"][0]["guests"]
    assert (told["action"], told["paused"]) == ("left alone", True)
    assert "its vCPUs have run for" in told["why"]
    assert state_of(libvirt, guest.uuid) is PAUSED
    assert done.returncode == 4
    assert f"STILL PAUSED: {guest.name}" in done.stderr


#: ``harness run`` that dies, with its guardian, right after its call that pauses has returned.
DIES = """
import os, runpy, signal, subprocess, sys, libvirt
pause = libvirt.virDomain.suspend
def die(domain):
    pause(domain)
    children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
    for pid in (*children, os.getpid()):
        os.kill(int(pid), signal.SIGKILL)
libvirt.virDomain.suspend = die
sys.argv[0] = "harness"
runpy.run_module("harness", run_name="__main__")
"""


@pytest.mark.parametrize("whose", ["ours", "another's"])
def test_a_run_that_died_before_it_wrote_that_it_had_paused(maintenance, libvirt, lab, whose):
    """It is judged by the vCPUs' time before the pause, and by how long the run can have lived."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--duration", "1", "--budget", "4", "--reserve", "2", python=DIES)
    assert run.ended() == -signal.SIGKILL, run.err
    assert "paused" not in [line.event for line in run.entries]
    becomes(libvirt, guest.uuid, PAUSED, within_s=2.0)
    if whose == "another's":
        libvirt.resume(guest.uuid, Deadline.after(5))
        burn(lab, guest.name, 6)
        libvirt.pause(guest.uuid, Deadline.after(5))
    code, guests = run.recover()
    expected = (0, ["resumed"], RUNNING) if whose == "ours" else (4, ["left alone"], PAUSED)
    assert (code, [g["action"] for g in guests], state_of(libvirt, guest.uuid)) == expected
    if whose == "another's":
        libvirt.resume(guest.uuid, Deadline.after(5))
        set_right([guest.name], lab.config_file)


def burn(lab, name: str, cpu_s: float) -> None:
    """Have a guest's vCPU use so much of the host's CPU time."""
    command = f"end=$(($(date +%s) + {2 * cpu_s:.0f})); while [ $(date +%s) -lt $end ]; do :; done"
    subprocess.run(
        [sys.executable, "-m", "harness", "lab", "ssh", name, command], check=True, timeout=60
    )


def test_a_signal_lets_recover_finish_its_rescue(dead, libvirt, lab):
    """QEMU is held up as it is to resume; Ctrl-C, twice: exit 130, and what was seen is said."""
    guest = lab.guests[0]
    qemu = libvirt.process(guest.uuid, Deadline.after(5)).pid
    os.kill(qemu, signal.SIGSTOP)
    try:
        recover = dead.start("recover")
        dead.until("resuming", by="recover")
        for _ in range(2):
            recover.send_signal(signal.SIGINT)
            SYSTEM_CLOCK.sleep(0.3)
        assert recover.poll() is None, "it goes on with its rescue"
    finally:
        os.kill(qemu, signal.SIGCONT)
    out, err = recover.communicate(timeout=60)
    assert (recover.returncode, state_of(libvirt, guest.uuid)) == (130, RUNNING), err
    assert "1 guest resumed; no guest is paused now (looked at all of" in out
    assert "interrupted by SIGINT" in err
    assert dead.recover()[0] == 0  # it had come to no clock yet


def test_a_recovery_is_not_kept_out_by_who_only_looks(dead, libvirt, lab):
    """Whether the run is dead is asked by its lock, again and again."""
    looking = dead.start("recover", "--json")
    looks = 0
    while looking.poll() is None:
        in_use(dead.folder / "journal.jsonl")
        looks += 1
    out, err = looking.communicate(timeout=60)
    assert looking.returncode == 0, (out, err, looks)
    assert state_of(libvirt, lab.guests[0].uuid) is RUNNING


def test_what_recover_says_of_no_guest_it_has_looked_at(maintenance, lab):
    """No libvirt answers: exit 3, and no word that none is paused."""
    run = maintenance(lab.guests[0].name, "--help")
    run.ended()
    away = "qemu+unix:///system?socket=/nonexistent/sock"
    done = run.command("recover", "--uri", away)
    assert done.returncode == 3
    assert "no guest was looked at" in done.stdout
    assert "paused" not in done.stdout
    done = run.command("recover", "--uri", lab.uri)
    assert (done.returncode, "no guest is paused now (looked at all of" in done.stdout) == (0, True)
