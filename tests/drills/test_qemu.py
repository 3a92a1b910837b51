"""QEMU is replaced, and something breaks: every guest is back with its own RAM, nothing is left.

Requires: the session's lab, whose RAM folder is in memory. Leaves behind: nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import HarnessError, UpdateFailed
from harness.core.timebase import SYSTEM_CLOCK
from harness.host import parked_files
from harness.host.lifecycle import GuestState
from harness.host.parking import NEW, Berth
from harness.updates.qemu import programs
from harness.updates.qemu.swapping import Patience
from tests.drills.conftest import RUNNING, becomes
from tests.drills.switch import (
    Switch,
    persistent,
    restart_libvirtd,
    soon,
    virsh,
    without_monitor,
)
from tests.residents import EMULATOR, wrapper

#: The lines of the journal at which a run dies; parkable and pausing come before the pause.
LINES = ["parkable", "pausing", "paused", "parking", "parked", "unparking", "unparked", "resuming"]
LINES += ["resumed", "settled"]


@pytest.mark.parametrize("line", LINES)
def test_the_run_dies_and_its_guardian_brings_the_guest_back(resident, dies, libvirt, line):
    """Wherever it dies; recover finds nothing to start, and tidies up."""
    run = dies(line, both=False)
    becomes(libvirt, resident.guests["res-1"], RUNNING, within_s=10.0)
    resident.assert_same("res-1")
    code, guests = run.recover()
    assert code == 0, json.dumps(guests, indent=1)
    resident.assert_tidy()


@pytest.mark.parametrize("line", LINES)
def test_both_die_and_recover_brings_the_guest_back(resident, dies, libvirt, line):
    """Wherever they die: by what is resident, also where the last line came too late."""
    run = dies(line, both=True)
    code, guests = run.recover()
    assert code == 0, json.dumps(guests, indent=1)
    becomes(libvirt, resident.guests["res-1"], RUNNING, within_s=1.0)
    resident.assert_same("res-1")
    resident.assert_tidy()
    assert run.recover() == (0, [])


#: What is wrong with the new QEMU → what it does with the arguments.
FAULTS = {
    "exits at once": "echo cannot run here >&2; exit 1",
    "another machine type": 'a=("${@//pc-q35-7.2/pc-q35-6.2}"); exec $real "${a[@]}"',
    "a device is missing": """a=(); hold=; for x in "$@"; do
        if [ "$x" = -device ]; then hold=1; continue; fi
        if [ -n "$hold" ]; then hold=; case "$x" in *virtio-rng*) continue;; esac; a+=(-device); fi
        a+=("$x"); done; exec $real "${a[@]}\"""",
    "another size of RAM": """a=("${@//268435456/402653184}")
        a=("${a[@]//size=262144k/size=393216k}")
        exec $real "${a[@]}\"""",
    "is killed while it loads": '( sleep 0.25; kill -9 $$ ) & exec $real "$@"',
    "hangs": "exec sleep 600",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_new_qemu_that_fails_leaves_the_guest_in_its_old_one(
    resident, tmp_path, monkeypatch, fault
):
    """In the window: its RAM is as it was."""
    monkeypatch.setattr("harness.maintenance.pause.unparking.START_S", 3.0)
    folder = Path("/var/lib/libvirt/images")
    switch = Switch(resident, tmp_path, wrapper(folder, FAULTS[fault]))
    switch.pause()
    try:
        with pytest.raises(UpdateFailed, match="it is in its old QEMU again"):
            switch.swap.swap(switch.parking, soon())
        exe = os.readlink(f"/proc/{resident.look('res-1').process.pid}/exe")
        assert exe == str(EMULATOR)
    finally:
        switch.resume()
    switch.assert_back()


def test_a_guest_that_is_refused_more_often_than_ids_are_on_offer_comes_back(
    resident, tmp_path, monkeypatch
):
    """libvirt counts refused starts, too, and deletes what was on offer for each."""
    monkeypatch.setattr(parked_files, "_IDS_AHEAD", 2)
    folder = Path("/var/lib/libvirt/images")
    switch = Switch(resident, tmp_path, wrapper(folder, FAULTS["exits at once"]))
    switch.pause()
    switch.libvirt.parking.park(switch.parking, soon())
    for _ in range(6):
        with pytest.raises(HarnessError):
            switch.libvirt.parking.unpark(switch.parking, soon(), new=True)
    try:
        switch.libvirt.parking.unpark(switch.parking, soon(), new=False)
    finally:
        switch.resume()
    switch.assert_back()


def test_a_start_may_take_as_long_as_it_is_measured_to(resident, tmp_path, monkeypatch):
    """Where the host is so slow that any other limit would end it as one that hangs."""
    monkeypatch.setattr("harness.maintenance.pause.unparking.START_S", 0.05)
    switch = Switch(resident, tmp_path)
    program = programs.installed(EMULATOR, soon())
    measured_s = Patience().of(program, resident.look("res-1"), soon())
    switch.parking = replace(switch.parking, start_s=measured_s)
    switch.pause()
    try:
        switch.swap.swap(switch.parking, soon())
    finally:
        switch.resume()
    switch.assert_back()


def test_a_qemu_that_got_other_ram_never_runs(resident, tmp_path, monkeypatch):
    """Nothing was on offer under its id: it is ended, and tried again with the id that is known."""
    monkeypatch.setattr(parked_files, "_IDS_AHEAD", -1000)
    switch = Switch(resident, tmp_path)
    switch.pause()
    try:
        switch.swap.swap(switch.parking, soon())
    except HarnessError:
        monkeypatch.undo()
    finally:
        switch.resume()
    switch.assert_back()


def test_a_qemu_that_got_a_copy_of_the_ram_never_runs(resident, tmp_path):
    """Its state fits the copy, so that only the inode tells: it is ended, and has its own then."""
    switch = Switch(resident, tmp_path)
    own = resident.look("res-1").backings[0].identity
    switch.pause()
    switch.libvirt.parking.park(switch.parking, soon())
    under = Path(switch.parking.ram_folder, f"{switch.parking.highest_id + 1}-res-1", "pc.ram")
    copy = under.with_name("copy")
    subprocess.run(["cp", "--preserve", "--sparse=always", str(under), str(copy)], check=True)
    copy.replace(under)
    switch.resume()
    assert resident.look("res-1").backings[0].identity == own
    switch.assert_back()


def test_libvirtd_is_killed_while_the_guest_is_parked(resident, tmp_path, lab):
    """Its count of instances starts again; the guest comes back by the one that is started anew."""
    switch = Switch(resident, tmp_path)
    began_ns = SYSTEM_CLOCK.monotonic_ns()
    switch.pause()
    switch.libvirt.parking.park(switch.parking, soon())
    assert not switch.libvirt.missed_events(began_ns)
    restart_libvirtd()
    assert switch.libvirt.parking.berth(switch.parking, soon()) is Berth.PARKED
    assert switch.libvirt.missed_events(began_ns)
    switch.resume()
    switch.assert_back()


def test_a_stranger_starts_a_guest_that_is_parked(resident, tmp_path):
    """A persistent one, by plain virsh start: it has its RAM, and recover only tidies up."""
    with persistent():
        switch = Switch(resident, tmp_path)
        assert switch.parking.persistent
        switch.pause()
        switch.libvirt.parking.park(switch.parking, soon())
        off = switch.libvirt.state(switch.member.uuid, soon())
        assert off.state is GuestState.SHUT_OFF
        virsh("start", "res-1")
        switch.resume()
        switch.assert_back()


def test_a_new_qemu_that_is_not_told_of_its_ram_refuses_the_state(resident, tmp_path):
    """And the old one, which is told, takes the guest back."""
    switch = Switch(resident, tmp_path)
    switch.texts[NEW] = without_monitor(switch.texts[NEW])
    switch.pause()
    try:
        with pytest.raises(UpdateFailed, match="it is in its old QEMU again"):
            switch.swap.swap(switch.parking, soon())
    finally:
        switch.resume()
    switch.assert_back()
