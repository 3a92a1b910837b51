"""QEMU is replaced, and something breaks: every guest is back with its own RAM, nothing is left.

Requires: the session's lab, whose RAM folder is in memory. Leaves behind: nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.core.errors import HarnessError, UpdateFailed
from harness.core.timebase import Deadline
from harness.host import parker
from harness.host.lifecycle import GuestState
from harness.host.parking import NEW, OLD, Berth, Parking
from harness.lab import daemon, state
from harness.maintenance.pause.resume import resume_all
from harness.maintenance.pause.swap import Swap
from harness.results.journal import Journal, Member
from harness.updates.protocol import SwapPlan
from harness.updates.qemu.successor import NAMESPACE, successor
from harness.updates.qemu.update import lay_out, parking_for
from tests.drills.conftest import RUNNING, Maintenance, becomes
from tests.residents import Residents, residents

EMULATOR = Path("/usr/bin/qemu-system-x86_64")
#: The lines of the journal at which a run dies; parkable and pausing come before the pause.
LINES = ["parkable", "pausing", "paused", "parking", "parked", "unparking", "unparked", "resuming"]
LINES += ["resumed", "settled"]
#: `harness` that dies when it has written the line DIE_AT; first its guardian if BOTH is set.
DEADLY = """
import os, signal, subprocess, sys
from harness.results.journal import file
append = file.Journal._append
def deadly(self, entry):
    append(self, entry)
    if entry.event == os.environ["DIE_AT"]:
        if os.environ["BOTH"]:
            pattern = f"harness.maintenance.pause.guardian .*{self.path.parent}"
            subprocess.run(["pkill", "-KILL", "-f", pattern])
        os.kill(os.getpid(), signal.SIGKILL)
file.Journal._append = deadly
from harness.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def there(lab, libvirt, tmp_path_factory):
    """One guest whose QEMU can be replaced."""
    with residents(tmp_path_factory.mktemp("residents"), libvirt, count=1) as found:
        yield found


@pytest.fixture
def dies(there, tmp_path):
    """``dies("parked", both=False)``: a run that dies there, when it has ended."""

    def run(line: str, *, both: bool) -> Maintenance:
        config = there.configured(again=True)
        started = Maintenance(
            tmp_path, "-c", config, python=DEADLY, DIE_AT=line, BOTH="1" if both else ""
        )
        assert started.ended() == -signal.SIGKILL, started.err
        return started

    return run


@pytest.mark.parametrize("line", LINES)
def test_the_run_dies_and_its_guardian_brings_the_guest_back(there, dies, libvirt, line):
    """Wherever it dies; recover finds nothing to start, and tidies up."""
    run = dies(line, both=False)
    becomes(libvirt, there.guests["res-1"], RUNNING, within_s=10.0)
    there.assert_same("res-1")
    code, guests = run.recover()
    assert code == 0, json.dumps(guests, indent=1)
    there.assert_tidy()


@pytest.mark.parametrize("line", LINES)
def test_both_die_and_recover_brings_the_guest_back(there, dies, libvirt, line):
    """Wherever they die: by what is there, also where the last line came too late."""
    run = dies(line, both=True)
    code, guests = run.recover()
    assert code == 0, json.dumps(guests, indent=1)
    becomes(libvirt, there.guests["res-1"], RUNNING, within_s=1.0)
    there.assert_same("res-1")
    there.assert_tidy()
    assert run.recover() == (0, [])


def wrapper(folder: Path, body: str) -> Path:
    """A program that treats only guests badly: libvirt probes it without one."""
    file = folder / "qemu-system-x86_64"
    probed = 'case "$*" in *guest=*) ;; *) exec $real "$@";; esac'
    file.write_text(f"#!/bin/bash\nreal={EMULATOR}\n{probed}\n{body}\n")
    file.chmod(0o755)
    return file


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


class Switch:
    """One guest, and all that it takes to replace its QEMU without a whole run."""

    def __init__(self, there: Residents, folder: Path, new: Path = EMULATOR) -> None:
        self.there, self.libvirt = there, there.libvirt
        look = there.look("res-1")
        self.parking: Parking = parking_for(look)
        self.member = Member(look.name, look.uuid)
        self.journal = Journal(folder, "drill")
        self.swap = Swap(self.libvirt, self.journal)
        self.texts = {
            NEW: successor(look.description, new, self.parking.commands),
            OLD: successor(look.description, EMULATOR, self.parking.commands),
        }
        self.libvirt.parking.probe(str(new), "x86_64", "pc-q35-7.2", "qemu", soon())

    def pause(self) -> None:
        self.swap.prepare([SwapPlan(self.parking, {}, {})])
        lay_out(self.parking, self.texts)
        self.libvirt.pause(self.member.uuid, soon())

    def resume(self, patience_s: float = 30.0) -> None:
        answers = resume_all(
            [self.member],
            self.libvirt,
            self.journal,
            by="recover",
            since_ns=0,
            deadline=Deadline.after(patience_s),
        )
        answers[self.member.name].get()

    def assert_back(self) -> None:
        becomes(self.libvirt, self.member.uuid, RUNNING, within_s=1.0)
        self.there.assert_same("res-1")
        self.there.assert_tidy()


def soon() -> Deadline:
    return Deadline.after(30)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_new_qemu_that_fails_leaves_the_guest_in_its_old_one(there, tmp_path, monkeypatch, fault):
    """In the window: its RAM is as it was."""
    monkeypatch.setattr("harness.maintenance.pause.unparking.START_S", 3.0)
    folder = Path("/var/lib/libvirt/images")
    switch = Switch(there, tmp_path, wrapper(folder, FAULTS[fault]))
    switch.pause()
    try:
        with pytest.raises(UpdateFailed, match="it is in its old QEMU again"):
            switch.swap.swap(switch.parking, soon())
        exe = os.readlink(f"/proc/{there.look('res-1').process.pid}/exe")
        assert exe == str(EMULATOR)
    finally:
        switch.resume()
    switch.assert_back()


def test_a_qemu_that_got_other_ram_never_runs(there, tmp_path, monkeypatch):
    """Nothing was on offer under its id: it is ended, and tried again with the id that is known."""
    monkeypatch.setattr(parker, "_IDS_AHEAD", -1000)
    switch = Switch(there, tmp_path)
    switch.pause()
    try:
        switch.swap.swap(switch.parking, soon())
    except HarnessError:
        monkeypatch.undo()
    finally:
        switch.resume()
    switch.assert_back()


def test_libvirtd_is_killed_while_the_guest_is_parked(there, tmp_path, lab):
    """Its count of instances starts again; the guest comes back by the one that is started anew."""
    switch = Switch(there, tmp_path)
    switch.pause()
    switch.libvirt.parking.park(switch.parking, soon())
    restart_libvirtd()
    assert switch.libvirt.parking.berth(switch.parking, soon()) is Berth.PARKED
    switch.resume()
    switch.assert_back()


def restart_libvirtd() -> None:
    """Killed and started again, as systemd would."""
    lab = state.load()
    lab.daemons[-1].process.end("killing libvirtd", at_once=True)
    started = daemon._start("libvirtd", state.lab_dir(), None)
    state.save(replace(lab, daemons=(*lab.daemons[:-1], started)))


def test_a_stranger_starts_a_guest_that_is_parked(there, tmp_path):
    """A persistent one, by plain virsh start: it has its RAM, and recover only tidies up."""
    described = subprocess.run(["virsh", "dumpxml", "res-1"], capture_output=True, text=True)
    file = tmp_path / "res-1.xml"
    file.write_text(described.stdout)
    subprocess.run(["virsh", "define", str(file)], check=True, capture_output=True)
    try:
        switch = Switch(there, tmp_path)
        assert switch.parking.persistent
        switch.pause()
        switch.libvirt.parking.park(switch.parking, soon())
        off = switch.libvirt.state(switch.member.uuid, soon())
        assert off.state is GuestState.SHUT_OFF
        started = subprocess.run(["virsh", "start", "res-1"], capture_output=True, text=True)
        assert started.returncode == 0, started.stderr
        switch.resume()
        switch.assert_back()
    finally:
        subprocess.run(["virsh", "undefine", "res-1"], capture_output=True)


def test_a_new_qemu_that_is_not_told_of_its_ram_refuses_the_state(there, tmp_path):
    """And the old one, which is told, takes the guest back."""
    switch = Switch(there, tmp_path)
    switch.texts[NEW] = without_monitor(switch.texts[NEW])
    switch.pause()
    try:
        with pytest.raises(UpdateFailed, match="it is in its old QEMU again"):
            switch.swap.swap(switch.parking, soon())
    finally:
        switch.resume()
    switch.assert_back()


def without_monitor(description: str) -> str:
    """As a guest is described that was never replaced."""
    domain = ElementTree.fromstring(description)
    for line in domain.findall(f"{{{NAMESPACE}}}commandline"):
        domain.remove(line)
    return ElementTree.tostring(domain, encoding="unicode")
