"""A guest that libvirt does not have, or has on disk, has not ended for that.

Requires: the session's lab and its libvirtd. Leaves behind: nothing; its guests are of their own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import libvirt as api
import pytest

from harness.core.identity import boot_id
from harness.core.process_stat import is_same_process
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.lifecycle import GuestState
from tests.drills.conftest import PAUSED, RUNNING, Maintenance, becomes, run_for_a_while, state_of
from tests.drills.test_death import kill_both
from tests.drills.test_others import Libvirtd

LONG = ("--duration", "20")


def virsh(*arguments: str) -> None:
    subprocess.run(["virsh", "-q", "-c", "qemu:///system", *arguments], check=True, timeout=60)


def gone(pid: int, start_ticks: int) -> None:
    if is_same_process(pid, start_ticks):
        raise NotYet(f"{pid} lives")


@contextmanager
def forgotten(libvirt, uuid: str):
    """libvirtd is restarted without the status of a guest, whose QEMU is ended afterwards."""
    qemu = libvirt.process(uuid, Deadline.after(5))
    libvirtd = Libvirtd()
    libvirtd.end(signal.SIGTERM)
    (status,) = [one for one in Path("/run/libvirt/qemu").glob("*.xml") if uuid in one.read_text()]
    status.unlink()
    libvirtd.start()
    try:
        yield qemu
    finally:
        if is_same_process(qemu.pid, qemu.start_ticks):
            os.kill(qemu.pid, signal.SIGKILL)
        ended = partial(gone, qemu.pid, qemu.start_ticks)
        wait_for(ended, what="its end", deadline=Deadline.after(10))


def test_a_guest_that_libvirt_forgets_in_the_window_is_said_to_be_paused(
    maintenance, libvirt, doomed
):
    """By the run; then by recover, with its process; and when that has ended, that it has."""
    lab, config = doomed
    lost, other = lab.guests
    run = maintenance(lost.name, other.name, "--duration", "4", config=config)
    run.until("paused", guest=lost.name)
    run.until("paused", guest=other.name)
    with forgotten(libvirt, lost.uuid) as qemu:
        assert run.ended() == 4, run.err
        assert f"STILL PAUSED: {lost.name}" in run.err
        assert state_of(libvirt, lost.uuid) is GuestState.GONE
        guests = {guest.name: guest for guest in run.record.guests}
        assert guests[lost.name].still_paused
        assert "socat - UNIX-CONNECT:" in guests[lost.name].resume_hint
        assert f"its QEMU process {qemu.pid} lives" in guests[lost.name].problems[0]
        assert not guests[other.name].still_paused
        code, (told, _) = run.recover()
        assert (code, told["action"], told["paused"]) == (4, "LOST, PAUSED", True)
        assert f"its QEMU process {qemu.pid} lives, paused" in told["why"]
        follow(told["resume_hint"])
        run_for_a_while(libvirt, qemu)
        code, (told, _) = run.recover()
        assert (code, told["action"], told["paused"]) == (0, "left alone", False)
        assert "has run since" in told["why"]
    assert state_of(libvirt, other.uuid) is RUNNING
    assert run.recover() == (0, [])


def test_a_guest_that_libvirt_forgets_has_ended_when_its_process_has(maintenance, libvirt, doomed):
    """Both are killed; as long as QEMU lives its guest is held."""
    lab, config = doomed
    lost = lab.guests[0]
    run = maintenance(lost.name, *LONG, config=config)
    run.until("paused")
    kill_both(run)
    with forgotten(libvirt, lost.uuid):
        code, (told,) = run.recover()
        assert (code, told["action"]) == (4, "LOST, PAUSED")
    code, (told,) = run.recover()
    assert (code, told["action"], told["paused"]) == (0, "has ended", False)
    assert run.recover() == (0, [])


def follow(hint: str) -> None:
    """Do what is said there, without socat."""
    path = re.search(r"socat - (?:'UNIX-CONNECT:([^']*)'|UNIX-CONNECT:(\S*))$", hint)
    said = re.search(r"printf '([^']*)'", hint)
    assert path, hint
    assert said, hint
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(10)
        monitor.connect(path[1] or path[2])
        monitor.sendall(said[1].replace("\\n", "\n").encode())
        while b"RESUME" not in (heard := monitor.recv(1 << 16)):
            assert heard, "the monitor has closed the connection"


@pytest.fixture
def persistent(doomed):
    """``doomed``, whose first guest libvirt knows also while it does not run."""
    lab, config = doomed
    connection = api.open("qemu:///system")
    guest = connection.lookupByUUIDString(lab.guests[0].uuid)
    connection.defineXML(guest.XMLDesc(api.VIR_DOMAIN_XML_SECURE))
    yield lab.guests[0], config
    if not guest.isActive():
        guest.create()
    guest.undefineFlags(api.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
    connection.close()


def test_a_guest_that_is_saved_in_the_window_is_held_and_resumed_when_it_is_back(
    maintenance, libvirt, persistent
):
    """virsh managedsave: exit 4, and told what helps; the next start brings it back paused."""
    guest, config = persistent
    run = maintenance(guest.name, "--duration", "4", config=config)
    run.until("paused")
    virsh("managedsave", guest.name)
    assert run.ended() == 4, run.err
    assert "was saved to disk during the pause" in run.record.guests[0].problems[0]
    done = run.command("recover")
    assert done.returncode == 4
    assert f"virsh -c qemu:///system start {guest.name} (comes back as it was saved)" in done.stderr
    virsh("start", guest.name)
    assert state_of(libvirt, guest.uuid) is PAUSED
    code, guests = run.recover()
    assert [(g["action"], g["clock_outcome"]) for g in guests] == [("resumed", "pass")]
    assert (code, state_of(libvirt, guest.uuid)) == (0, RUNNING)
    assert not run.record.guests[0].still_paused
    assert run.recover() == (0, [])


def booted_since(run: Maintenance) -> None:
    """Have the journal be of an earlier boot of this host."""
    journal = run.folder / "journal.jsonl"
    journal.write_text(journal.read_text().replace(boot_id(), "another-boot"))


@pytest.mark.parametrize("reboot", [False, True], ids=["same boot", "host booted"])
@pytest.mark.parametrize("back", ["as it was", "and ran", "anew"])
def test_what_comes_back_paused_is_ours_if_it_is_the_memory_that_we_paused(
    maintenance, libvirt, persistent, back, reboot
):
    """Restored, it is resumed; restored, resumed and paused again, or created paused, it is not."""
    guest, config = persistent
    run = maintenance(guest.name, *LONG, config=config)
    run.until("paused")
    kill_both(run)
    virsh("managedsave", guest.name)
    virsh("start", guest.name, *(["--force-boot", "--paused"] if back == "anew" else []))
    becomes(libvirt, guest.uuid, PAUSED, within_s=5)
    if back == "and ran":
        virsh("resume", guest.name)
        run_for_a_while(libvirt, libvirt.process(guest.uuid, Deadline.after(5)))
        virsh("suspend", guest.name)
    if reboot:
        booted_since(run)
    code, (told,) = run.recover()
    if back == "as it was":
        assert (code, told["action"]) == (0, "resumed"), json.dumps(told)
        assert state_of(libvirt, guest.uuid) is RUNNING
    else:
        assert (code, told["action"], told["paused"]) == (4, "left alone", True)
        assert state_of(libvirt, guest.uuid) is PAUSED
        assert re.search("another program", told["why"])
        virsh("resume", guest.name)
