"""QEMU is replaced, and a process is killed that has to see to the guest: what is said of it then.

The guardian; a libvirtd that had just begun to start the guest's QEMU; the new QEMU after the
resume; a run that nobody knows of any more. Requires: the session's lab, whose RAM folder is in
memory. Leaves behind: nothing.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.lifecycle import GuestState
from harness.lab import state
from tests.drills.conftest import DEADLY, RUNNING, Maintenance, becomes, state_of
from tests.drills.switch import persistent, restart_libvirtd, soon
from tests.drills.test_qemu_faults import answers, boot_again
from tests.residents import KEEP

STATUS = Path("/run/libvirt/qemu/res-1.xml")


def test_the_guardian_dies_and_the_run_brings_the_guest_back(resident, tmp_path, libvirt):
    """At once: nothing more is begun without it, and what is done is finished or taken back."""
    config = resident.configured(again=True)
    run = Maintenance(tmp_path, "-c", config, python=DEADLY, DIE_AT="parked", DIES="guardian")
    assert run.ended() == 3, run.err
    assert "the guardian died" in run.record.update_domains[0].problems[0]
    assert state_of(libvirt, resident.guests["res-1"]) is RUNNING
    resident.assert_same("res-1")
    resident.assert_tidy()
    assert run.recover() == (0, [])


def test_a_new_qemu_that_crashes_after_the_resume_is_a_crash_of_the_guest(
    resident, maintenance, libvirt, monkeypatch
):
    """It is said to have ended: never rolled back, nor started by a state that is old by now."""
    uuid = resident.guests["res-1"]
    with persistent():
        monkeypatch.setenv("HARNESS_MEND_TIMEOUT_S", "4")
        run = maintenance("res-1", config=resident.configured(again=True))
        run.until("resumed")
        Deadline.after(1).clock.sleep(0.1)
        os.kill(libvirt.process(uuid, soon()).pid, signal.SIGKILL)
        assert run.ended() == 3, run.err
        (guest,) = run.record.guests
        assert not guest.still_paused
        assert "has ended since (shut off" in guest.problems[0]
        said = " ".join([*guest.problems, *(check.detail for check in guest.checks), run.err])
        assert "rolled back" not in said
        assert state_of(libvirt, uuid) is GuestState.SHUT_OFF
        events = [line.event for line in run.entries]
        assert "unparking" not in events[events.index("resumed") :]
        assert run.recover() == (0, [])
        boot_again(resident)
    resident.assert_tidy()


def killed_as_it_starts_a_qemu() -> bool:
    """Kill libvirtd when it has written down a start, and no pid yet; False if it was too late."""
    libvirtd = state.load().daemons[-1].pid

    def pid() -> str:
        try:
            return re.findall(r"<domstatus [^>]*pid='(\d+)'", STATUS.read_text())[0]
        except (OSError, IndexError) as error:
            raise NotYet("no start") from error

    wait_for(pid, what="the start", deadline=soon(), interval_s=0.0005)
    os.kill(libvirtd, signal.SIGSTOP)
    if pid() != "0":
        os.kill(libvirtd, signal.SIGCONT)
        return False
    restart_libvirtd()
    wait_for(answers, what="libvirtd", deadline=soon())
    return True


def test_a_start_that_libvirt_was_killed_at_is_told_with_what_helps(
    resident, dies, libvirt, monkeypatch
):
    """libvirt calls it paused (starting up) for ever, also after a restart; its RAM is kept."""
    monkeypatch.setenv("HARNESS_RESUME_PATIENCE_S", "6")
    for _ in range(5):
        run = dies("parked", both=True)
        recovering = run.start("recover", "--json")
        given_up = killed_as_it_starts_a_qemu()
        out, err = recovering.communicate(timeout=60)
        if given_up:
            break
        assert recovering.returncode == 0, err
    (found,) = json.loads(out)["runs"]
    (guest,) = found["guests"]
    assert (recovering.returncode, guest["action"]) == (4, "STILL PAUSED"), err
    assert "it is paused (starting up)" in guest["why"]
    assert "systemctl restart libvirtd; harness recover" in guest["resume_hint"]
    told = run.command("status").stdout
    assert "res-1 is paused (starting up)" in told
    (remove,) = re.findall(r"never goes on: (rm \S+);", told)
    assert libvirt.state(resident.guests["res-1"], soon()).reason == "starting up"
    subprocess.run(shlex.split(remove), check=True)
    restart_libvirtd()
    wait_for(answers, what="libvirtd", deadline=soon())
    code, guests = run.recover()
    assert (code, guests[0]["action"]) == (0, "resumed"), guests
    becomes(libvirt, resident.guests["res-1"], RUNNING, within_s=1.0)
    resident.assert_same("res-1")
    resident.assert_tidy()


def test_ram_that_was_kept_for_a_run_that_nobody_knows_any_more_is_found(resident, dies):
    """By doctor and by recover, each with the guest and the size; what helps is what it says."""
    run = dies("resumed", both=True)
    shutil.rmtree(run.folder)
    look = resident.look("res-1")
    folder = Path(look.backings[0].path).parents[1] / KEEP / look.uuid
    mib = (folder / "ram" / "pc.ram").stat().st_blocks * 512 / 2**20
    found = run.command("doctor", "res-1", "-c", resident.configured(again=True))
    assert f"MiB are kept for guest {look.uuid} in {folder}" in found.stdout + found.stderr
    done = run.command("recover")
    said = done.stdout + done.stderr
    kept, removes = re.findall(
        rf"(\d+) MiB of RAM are kept for guest {look.uuid}.*: (rm .*)\)", said
    )[0]
    assert abs(int(kept) - mib) < 8  # it runs
    subprocess.run(shlex.split(removes), check=True)
    assert "are kept" not in run.command("recover").stderr
    folder.parent.rmdir()  # the next replacement would
    resident.assert_same("res-1")
    resident.assert_tidy()
