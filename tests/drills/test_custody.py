"""Whose guest is it: judged from our own pause on, by its process and its vCPUs' time.

Requires: the session's lab. Leaves behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import signal
import subprocess

import libvirt as api
import pytest

from harness.core.timebase import Deadline
from tests.drills.conftest import PAUSED, RUNNING, becomes, state_of

#: ``harness run``, whose call that pauses waits for the file ``go``: else it takes milliseconds.
SLOW = """
import os, runpy, sys, time, libvirt
pause = libvirt.virDomain.suspend
def wait(domain):
    while not os.path.exists("go"):
        time.sleep(0.001)
    return pause(domain)
libvirt.virDomain.suspend = wait
sys.argv[0] = "harness"
runpy.run_module("harness", run_name="__main__")
"""


@pytest.mark.parametrize("how", ["finishes", "is killed"])
def test_who_resumed_our_guest_before_our_pause_has_not_taken_it_over(
    maintenance, libvirt, lab, tmp_path, how
):
    """A backup's snapshot between "armed" and our call that pauses."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--duration", "3", python=SLOW)
    run.until("armed")
    libvirt.pause(guest.uuid, Deadline.after(5))
    libvirt.resume(guest.uuid, Deadline.after(5))
    (tmp_path / "go").touch()
    run.until("paused")
    if how == "is killed":
        run.kill()
        assert run.ended() == -signal.SIGKILL
    else:
        assert run.ended() == 0, (run.err, run.out)
        (told,) = run.record.guests
        assert (told.still_paused, told.pause_window_s is not None) == (False, True)
    becomes(libvirt, guest.uuid, RUNNING, within_s=3.0)
    assert "taken over" not in [line.event for line in run.entries]
    assert run.recover()[0] == 0


@pytest.mark.parametrize("how", ["finishes", "is killed"])
def test_a_guest_that_its_owner_ended_and_created_paused_is_not_resumed(
    maintenance, libvirt, doomed, how
):
    """Another process by the same name and UUID: left paused, and said to be."""
    lab, config = doomed
    guest = lab.guests[0]
    run = maintenance(guest.name, "--duration", "5", config=config)
    run.until("paused")
    owner = api.open("qemu:///system")
    try:
        domain = owner.lookupByUUIDString(guest.uuid)
        xml = domain.XMLDesc(api.VIR_DOMAIN_XML_SECURE)
        domain.destroy()
        owner.createXML(xml, api.VIR_DOMAIN_START_PAUSED)
    finally:
        owner.close()
    if how == "is killed":
        run.kill()
        run.until("taken over")
        run.ended()
    else:
        assert run.ended() == 4
        assert f"STILL PAUSED: {guest.name}" in run.err
        assert "started again" in run.record.guests[0].problems[0]
    assert state_of(libvirt, guest.uuid) is PAUSED


def test_a_process_with_the_uuid_among_its_arguments_is_not_taken_for_the_guest(libvirt, lab):
    """Whatever pid it has."""
    guest = lab.guests[0]
    known = libvirt.process(guest.uuid, Deadline.after(5))
    with subprocess.Popen(
        ["sh", "-c", "read line", "qemu-system-x86_64", "-uuid", guest.uuid], stdin=subprocess.PIPE
    ) as impostor:
        from harness.host.driver import LibvirtHypervisor

        fresh = LibvirtHypervisor.open(lab.uri, Deadline.after(10))
        try:
            assert fresh.process(guest.uuid, Deadline.after(5)) == known
        finally:
            fresh.close()
        assert impostor.pid != known.pid
        impostor.communicate()
