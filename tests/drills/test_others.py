"""Other people and other things get in the way of a maintenance.

Requires: the session's lab and its libvirtd. Leaves behind: nothing; clocks are right.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import tomllib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import libvirt as api
import pytest
import tomli_w

from harness.core.errors import DeadlineExpired
from harness.core.records import RunRecord
from harness.core.timebase import SYSTEM_CLOCK, Deadline, NotYet, wait_for
from harness.host.driver import LibvirtHypervisor
from harness.lab import daemon, state
from tests.drills.conftest import PAUSED, RUNNING, becomes, run_for_a_while, state_of

#: The state of a socket in /proc/net/tcp.
ESTABLISHED = "01"


def test_a_second_run_is_told_who_holds_the_host(maintenance, lab, libvirt):
    """Exit 3 with the holder's run id; the first one is not disturbed."""
    first = maintenance(lab.guests[0].name, "--duration", "4")
    first.until("paused")
    done = first.command("run", lab.guests[1].name, "-c", str(lab.config_file))
    assert done.returncode == 3
    assert "is taken: root has held it for" in done.stderr
    assert first.folder.name in done.stderr
    assert first.ended() == 0


def test_a_reserved_host_is_not_maintained(maintenance, lab, tmp_path):
    """And is free again when the reservation has been released."""
    config = ("-c", str(lab.config_file))
    run = maintenance(lab.guests[0].name, "--help")
    run.ended()
    assert run.command("lock", "--hold", "flashing", "--for", "2h", *config).returncode == 0
    try:
        refused = run.command("run", lab.guests[0].name, *config)
        assert refused.returncode == 3
        assert "flashing" in refused.stderr
    finally:
        assert run.command("lock", "--release", *config).returncode == 0
    assert "is free" in run.command("lock", *config).stdout


def resume_for_a_while(libvirt, uuid: str) -> None:
    """As a person would: its vCPUs run, which a guest that is paused again at once may not have."""
    libvirt.resume(uuid, Deadline.after(5))
    run_for_a_while(libvirt, libvirt.process(uuid, Deadline.after(5)), cpu_ns=6_000_000)


def test_somebody_else_resumes_our_guest_in_the_window(maintenance, lab, libvirt):
    """It is left as it is, and the record tells: it is paused, and said to be."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--duration", "8")
    run.until("paused")
    resume_for_a_while(libvirt, guest.uuid)
    libvirt.pause(guest.uuid, Deadline.after(5))  # from here on it is theirs
    assert run.ended() == 4
    assert state_of(libvirt, guest.uuid) is PAUSED
    assert "resumed by another program" in run.record.guests[0].problems[0]
    assert run.record.guests[0].still_paused
    assert f"STILL PAUSED: {guest.name}" in run.err
    libvirt.resume(guest.uuid, Deadline.after(5))
    assert run.command("clock", "correct", guest.name, "-c", str(lab.config_file)).returncode == 0


def test_the_guardian_leaves_alone_what_somebody_else_paused_again(maintenance, lab, libvirt):
    """The run is killed after somebody took its guest over: nobody of ours resumes it."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--duration", "20")
    run.until("paused")
    resume_for_a_while(libvirt, guest.uuid)
    libvirt.pause(guest.uuid, Deadline.after(5))
    run.kill()
    run.until("taken over")
    run.ended()
    assert state_of(libvirt, guest.uuid) is PAUSED
    code, guests = run.recover()
    assert (code, [g["action"] for g in guests]) == (4, ["left alone"])
    assert "another one resumed it during the run's pause" in guests[0]["why"]
    assert state_of(libvirt, guest.uuid) is PAUSED
    libvirt.resume(guest.uuid, Deadline.after(5))
    assert run.command("clock", "correct", guest.name, "-c", str(lab.config_file)).returncode == 0


def test_somebody_else_pauses_another_guest_in_the_window(maintenance, lab, libvirt):
    """It stays paused, and the run is green."""
    ours, theirs = lab.guests[0], lab.guests[1]
    run = maintenance(ours.name, "--duration", "2")
    run.until("paused")
    libvirt.pause(theirs.uuid, Deadline.after(5))
    try:
        assert run.ended() == 0
        assert state_of(libvirt, theirs.uuid) is PAUSED
    finally:
        libvirt.resume(theirs.uuid, Deadline.after(5))
    assert run.command("clock", "correct", theirs.name, "-c", str(lab.config_file)).returncode == 0


@pytest.mark.parametrize("whose", ["the run's", "the guardian's"])
def test_a_pause_that_takes_effect_after_it_was_given_up_strands_nobody(
    harness, lab, libvirt, whose
):
    """QEMU is held up as the pause reaches it, so the guest seems to run when it is resumed."""
    guest = lab.guests[0]
    qemu = libvirt.process(guest.uuid, Deadline.after(5))
    resuming = (
        libvirt if whose == "the run's" else LibvirtHypervisor.open(lab.uri, Deadline.after(5))
    )
    os.kill(qemu.pid, signal.SIGSTOP)
    goes_on = threading.Timer(1.0, os.kill, (qemu.pid, signal.SIGCONT))
    try:
        with pytest.raises(DeadlineExpired, match="pausing"):
            libvirt.pause(guest.uuid, Deadline.after(0.3))
        goes_on.start()
        assert resuming.resume(guest.uuid, Deadline.after(20)) is not None
    finally:
        os.kill(qemu.pid, signal.SIGCONT)
    assert state_of(libvirt, guest.uuid) is RUNNING
    assert libvirt.resume(guest.uuid, Deadline.after(20)) is None  # no pause is on its way
    assert harness("clock", "correct", guest.name).code == 0


class Libvirtd:
    """The lab's own libvirtd, to be ended and started like an upgrade does."""

    def __init__(self) -> None:
        self.lab = state.load()

    def end(self, number: int) -> None:
        libvirtd = self.lab.daemons[-1]
        os.kill(libvirtd.pid, number)
        daemon.stop([libvirtd])  # waits until it is gone, and reaps it

    def start(self) -> None:
        started = daemon._start("libvirtd", state.lab_dir(), None)
        self.lab = replace(self.lab, daemons=(*self.lab.daemons[:-1], started))
        state.save(self.lab)


@pytest.mark.parametrize(
    ("number", "away_s"), [(signal.SIGTERM, 0.0), (signal.SIGKILL, 0.0), (signal.SIGKILL, 5.0)]
)
def test_libvirtd_goes_away_in_the_window(maintenance, lab, libvirt, number, away_s):
    """Restarted, killed, killed for 5 s: guests are resumed in time, the run goes on to its end."""
    libvirtd = Libvirtd()
    run = maintenance("tiny-1", "debian-1", "--duration", "2", "--budget", "20")
    run.until("paused", guest="tiny-1")
    run.until("paused", guest="debian-1")
    libvirtd.end(number)
    SYSTEM_CLOCK.sleep(away_s)
    libvirtd.start()
    assert run.ended() == 0, (run.out, run.err)
    for guest in run.record.guests:
        assert guest.pause_window_s < 20
    # Our own connection recovers by itself as well.
    assert state_of(libvirt, lab.guests[0].uuid) is RUNNING


@pytest.fixture
def stopped_libvirtd(lab, tmp_path):
    """``stopped_libvirtd(rollback)``: a configuration whose update stops libvirtd and fails."""
    libvirtd = state.load().daemons[-1].pid
    file = lab.config_file.with_name("stopped.toml")  # paths in it are relative

    def configured(*, rolled_back: bool) -> Path:
        script = tmp_path / "update.sh"
        script.write_text(f"#!/bin/sh\nkill -STOP {libvirtd}\nexit 1\n")
        script.chmod(0o755)
        update = {"kind": "command", "command": [str(script)]}
        if rolled_back:
            update["rollback"] = ["kill", "-CONT", str(libvirtd)]
        config = tomllib.loads(lab.config_file.read_text())
        file.write_text(tomli_w.dumps(config | {"update": update, "resume_patience_s": 3.0}))
        return file

    yield configured
    os.kill(libvirtd, signal.SIGCONT)
    file.unlink()


def test_a_libvirtd_that_only_the_rollback_brings_back_strands_nobody(
    maintenance, lab, stopped_libvirtd
):
    """Nobody could be resumed: the update is rolled back first, then guests are resumed, mended."""
    run = maintenance("tiny-1", config=stopped_libvirtd(rolled_back=True))
    assert run.ended() == 3, (run.out, run.err)
    (guest,) = run.record.guests
    assert not guest.still_paused
    assert guest.pause_window_s > 3
    assert guest.clock.after_correction is not None
    assert {c.name: c.outcome for c in guest.checks}["clock"] == "pass"


def test_a_libvirtd_that_stays_away_is_the_loudest_message_and_recover_finishes(
    maintenance, lab, libvirt, stopped_libvirtd
):
    """Nothing says that the guest runs, so it is said to be paused; and so it is. The guardian
    resumes it as soon as that can be done, and recover mends its clock."""
    run = maintenance("tiny-1", config=stopped_libvirtd(rolled_back=False))
    assert run.ended(timeout_s=180) == 4, (run.out, run.err)
    assert "STILL PAUSED: tiny-1" in run.err
    os.kill(state.load().daemons[-1].pid, signal.SIGCONT)
    becomes(libvirt, lab.guests[0].uuid, RUNNING, within_s=30)  # the guardian has gone on trying

    code, guests = run.recover()
    assert code == 0, json.dumps(guests)
    assert [(g["name"], g["clock_outcome"]) for g in guests] == [("tiny-1", "pass")]
    (guest,) = run.record.guests
    assert not guest.still_paused
    assert "harness recover: tiny-1" in guest.problems[-1]
    assert run.record.exit_code == 4  # so it ended
    assert run.recover() == (0, [])


def tap_of(uuid: str) -> str:
    """The host's end of a guest's network card."""
    connection = api.open("qemu:///system")
    description = ElementTree.fromstring(connection.lookupByUUIDString(uuid).XMLDesc())
    connection.close()
    return description.find("devices/interface/target").get("dev")


def cable(uuid: str, position: str) -> None:
    subprocess.run(["ip", "link", "set", tap_of(uuid), position], check=True)


def dead_connections_end(guest) -> None:
    """Wait until none is left in the guest but the one that asks: what ends later has broken.

    TCP tells the guest that the other end has gone, over and over, and ever more rarely.
    """

    def look() -> None:
        told = guest.shell.run("cat /proc/net/tcp /proc/net/tcp6", Deadline.after(10)).stdout
        sockets = [line.split() for line in told.splitlines()]
        left = [fields[2] for fields in sockets if fields[3] == ESTABLISHED]
        if len(left) > 1:
            raise NotYet(f"connected to {left}")

    wait_for(look, what="dead connections to end", deadline=Deadline.after(60), interval_s=0.2)


def test_a_guest_whose_network_is_dead_is_not_paused(maintenance, lab, libvirt):
    """Known before the pause, in bounded time: exit 3, nothing paused."""
    guest = lab.guests[0]
    before = len(libvirt.events(guest.uuid))
    cable(guest.uuid, "down")
    try:
        run = maintenance(guest.name, HARNESS_SSH_CONNECT_TIMEOUT_S="3")
        assert run.ended(timeout_s=30) == 3
        assert len(libvirt.events(guest.uuid)) == before
    finally:
        cable(guest.uuid, "up")


def test_a_guest_whose_network_dies_in_the_window_is_resumed_and_named(
    maintenance, lab, libvirt, session
):
    """Its clock is not said to be right; the other guest is mended; exit 3 in bounded time."""
    lost, other = lab.guests[0], next(g for g in lab.guests if g.name == "debian-1")
    run = maintenance(lost.name, other.name, "--duration", "1", HARNESS_MEND_TIMEOUT_S="6")
    run.until("paused", guest=lost.name)
    cable(lost.uuid, "down")
    try:
        assert run.ended() == 3
        becomes(libvirt, lost.uuid, RUNNING, within_s=1)
    finally:
        cable(lost.uuid, "up")
    guests = {guest.name: guest for guest in run.record.guests}
    assert {c.name: c.outcome for c in guests[lost.name].checks}["clock"] == "error"
    assert guests[other.name].outcome == "pass"
    assert run.command("clock", "correct", lost.name, "-c", str(lab.config_file)).returncode == 0
    dead_connections_end(session(lost.name))


def test_an_update_that_floods_its_output_does_no_harm(maintenance, lab, tmp_path):
    """1 GiB: the run is green, what is kept is bounded."""
    script = tmp_path / "flood.sh"
    script.write_text("#!/bin/sh\nhead -c 1073741824 /dev/zero\n")
    script.chmod(0o755)
    run = maintenance(lab.guests[0].name, "--update", str(script))
    assert run.ended() in (0, 1), run.err
    checks = json.loads(run.out)["guests"][0]["checks"]
    assert [check for check in checks if check["outcome"] in ("fail", "error")] == []
    assert (run.folder / "update-0.log").stat().st_size < 17 << 20


def test_a_disk_that_fills_up_in_the_window(maintenance, lab, libvirt, tmp_path):
    """Resumed, mended, told on stdout; exit 3 names the disk; recover can finish it later."""
    script = tmp_path / "fill.sh"
    script.write_text('#!/bin/sh\ncat /dev/zero > "$HARNESS_RUN_DIR/fill"\nexit 0\n')
    script.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", state], check=True)
    try:
        run = maintenance(lab.guests[0].name, "--update", str(script))
        assert run.ended() == 3
        assert "No space left on device" in run.err
        record = RunRecord.model_validate_json(run.out)
        end = record.guests[0].clock.after_correction
        assert abs(end.offset_s) + end.uncertainty_s <= 0.050
        becomes(libvirt, lab.guests[0].uuid, RUNNING, within_s=1)
        (run.folder / "fill").unlink()
        assert run.recover()[0] == 0
    finally:
        subprocess.run(["umount", state], check=True)


def test_a_killed_run_takes_its_update_with_it(maintenance, lab, libvirt, tmp_path):
    """Nobody goes on updating the host under guests that run again."""
    script = tmp_path / "slow.sh"
    script.write_text("#!/bin/sh\ntrap '' TERM\nsetsid sleep 304 &\necho $$ > pid\nsleep 303\n")
    script.chmod(0o755)
    run = maintenance(lab.guests[0].name, "--update", str(script))

    def started() -> None:
        if not (tmp_path / "pid").exists():
            raise NotYet("it has not started")

    def over() -> None:
        left = subprocess.run(["pgrep", "-f", "^sleep 30[34]"], capture_output=True, text=True)
        if left.stdout:
            raise NotYet(left.stdout)

    wait_for(started, what="the update", deadline=Deadline.after(60), interval_s=0.01)
    run.kill()
    run.until("resumed", by="guardian")
    run.ended()
    wait_for(over, what="the end of the update", deadline=Deadline.after(5))
    assert run.recover()[0] == 0


def test_qemu_killed_in_the_window(maintenance, doomed, libvirt):
    """Dead is dead and says so; the other guest is unaffected; not exit 4."""
    lab, config = doomed
    dead, other = lab.guests
    run = maintenance(dead.name, other.name, "--duration", "2", config=config)
    run.until("paused", guest=dead.name)
    run.until("paused", guest=other.name)
    os.kill(libvirt.process(dead.uuid, Deadline.after(5)).pid, signal.SIGKILL)
    assert run.ended() == 3
    guests = {guest.name: guest for guest in run.record.guests}
    assert guests[other.name].outcome == "pass"
    assert not guests[dead.name].still_paused
    assert "gone" in guests[dead.name].problems[0] or "shut off" in guests[dead.name].problems[0]


def test_a_guest_that_panics_on_resume(maintenance, doomed, libvirt, harness, monkeypatch):
    """It is named and nothing good is said of it; the other one is mended; bounded in time."""
    lab, config = doomed
    dead, other = lab.guests
    with monkeypatch.context() as patch:
        patch.setenv("HARNESS_STATE_DIR", str(config.parent.parent))
        command = "echo 1 > /proc/sys/kernel/unknown_nmi_panic"
        assert harness("lab", "ssh", dead.name, command).code == 0
    run = maintenance(
        dead.name, other.name, "--duration", "2", config=config, HARNESS_MEND_TIMEOUT_S="6"
    )
    run.until("paused", guest=dead.name)
    run.until("paused", guest=other.name)
    monitor = api.open("qemu:///system")
    monitor.lookupByUUIDString(dead.uuid).injectNMI()  # taken when its vCPU runs again
    monitor.close()
    assert run.ended() == 3
    guests = {guest.name: guest for guest in run.record.guests}
    assert guests[other.name].outcome == "pass"
    assert guests[dead.name].outcome == "error"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_guest_that_cannot_be_resumed_is_the_loudest_message(
    maintenance, doomed, libvirt, encoding
):
    """Its QEMU is stopped, so it really stays paused: exit 4; the other runs; then recover.

    Also where the output has no dash for what is not known of it: that it is paused is still said,
    and the exit code is the record's.
    """
    lab, config = doomed
    stuck, other = lab.guests
    run = maintenance(
        stuck.name,
        other.name,
        *("--duration", "1"),
        config=config,
        table=True,
        HARNESS_RESUME_PATIENCE_S="8",
        PYTHONIOENCODING=encoding,
    )
    run.until("paused", guest=stuck.name)
    qemu = libvirt.process(stuck.uuid, Deadline.after(5)).pid
    os.kill(qemu, signal.SIGSTOP)
    try:
        run.until("resumed", guest=other.name)
        assert run.ended(timeout_s=120) == 4
        assert f"STILL PAUSED: {stuck.name}" in run.err
        assert run.record.exit_code == 4
        dash = {"utf-8": "\u2013", "latin-1": "\\u2013"}[encoding]
        assert dash in run.out + run.err, (run.out, run.err)
    finally:
        os.kill(qemu, signal.SIGCONT)
    becomes(libvirt, stuck.uuid, RUNNING, within_s=15)
