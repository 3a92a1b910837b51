"""One resident guest whose QEMU is replaced, step by step or by a whole run that dies."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from harness.core.timebase import Deadline
from harness.host.parking import NEW, OLD, Parking
from harness.lab import daemon, state
from harness.maintenance.pause.resume import resume_all
from harness.maintenance.pause.swap import Swap
from harness.results.journal import Journal, Member
from harness.updates.protocol import SwapPlan
from harness.updates.qemu.successor import NAMESPACE, successor
from harness.updates.qemu.swapping import lay_out
from harness.updates.qemu.update import parking_for
from tests.drills.conftest import RUNNING, becomes
from tests.residents import EMULATOR, Residents


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


def restart_libvirtd() -> None:
    """Killed and started again, as systemd would."""
    lab = state.load()
    lab.daemons[-1].process.end("killing libvirtd", at_once=True)
    started = daemon._start("libvirtd", state.lab_dir(), None)
    state.save(replace(lab, daemons=(*lab.daemons[:-1], started)))


def virsh(*words: str) -> str:
    """What a stranger does; what it printed."""
    done = subprocess.run(["virsh", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_monitor(description: str) -> str:
    """As a guest is described that was never replaced."""
    domain = ElementTree.fromstring(description)
    for line in domain.findall(f"{{{NAMESPACE}}}commandline"):
        domain.remove(line)
    return ElementTree.tostring(domain, encoding="unicode")


@contextmanager
def persistent() -> Iterator[None]:
    """The guest is defined as its owner would, for that long; it may be undefined meanwhile."""
    file = state.lab_dir() / "res-1.xml"
    file.write_text(without_monitor(virsh("dumpxml", "--security-info", "res-1")))
    virsh("define", str(file))
    try:
        yield
    finally:
        subprocess.run(["virsh", "undefine", "res-1"], capture_output=True)
