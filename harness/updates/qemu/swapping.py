"""How guests go on in another process: what kinds qemu and adopt have in common."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from harness.core.errors import HarnessError, HypervisorError, UpdateFailed
from harness.core.fanout import fan_out
from harness.core.files import private_folder, public_folder, write_atomically
from harness.core.timebase import Deadline
from harness.host import ram_links
from harness.host.parking import Parking, QemuLook
from harness.host.protocol import Hypervisor
from harness.updates.protocol import UpdateContext
from harness.updates.qemu import programs
from harness.updates.qemu.programs import Program

#: A start by libvirt took 2 to 4 times as long as that of QEMU by itself, on a quiet machine.
_PATIENCE = 20.0
#: For one start of a QEMU by itself; 0.2 s on a quiet machine.
_START_ALONE_S = 30.0
#: Root's own, and gone with a reboot, as the RAM is.
FILES = Path("/run/harness/parked")


def introduce(program: Program, look: QemuLook, hypervisor: Hypervisor, deadline: Deadline) -> None:
    """Have libvirt know a QEMU before a guest is paused for it. Raises HarnessError."""
    domain = ElementTree.fromstring(look.description)
    machine, arch = _machine(domain)
    programs.write_wrapper(program)
    try:
        accelerator = domain.get("type", "")
        hypervisor.parking.probe(str(program.emulator), arch, machine, accelerator, deadline)
    except HypervisorError as error:
        if program.tree is None:
            raise
        # It takes a module that is not in there from the installed QEMU, and aborts.
        hint = f"are all packages of it in {program.tree}, qemu-system-modules-* too?"
        raise UpdateFailed(error.message, hint=hint) from error


def _machine(domain: ElementTree.Element) -> tuple[str, str]:
    """The guest's machine type and architecture."""
    kind = domain.find("os/type")
    return (kind.get("machine", ""), kind.get("arch", "")) if kind is not None else ("", "")


class Patience:
    """How long a start of each QEMU may take on this host; a longer one hangs.

    By how long it takes to start by itself, which is measured once for each program: machine types
    hardly differ in that.
    """

    def __init__(self) -> None:
        self._found: dict[Program, float] = {}

    def of(self, program: Program, look: QemuLook, deadline: Deadline) -> float:
        """Return it in seconds; 0 if it could not be measured. Called after ``introduce``."""
        if program not in self._found:
            machine, _ = _machine(ElementTree.fromstring(look.description))
            until = deadline.sooner(_START_ALONE_S)
            self._found[program] = _PATIENCE * programs.start_time_s(program, machine, until)
        return self._found[program]


def trees_of(*which: Program) -> tuple[str, ...]:
    """Return the folders of unpacked packages that ``which`` are taken from."""
    return tuple(dict.fromkeys(str(one.tree) for one in which if one.tree is not None))


def swap_all(
    context: UpdateContext,
    parkings: Mapping[str, Parking],
    descriptions: Mapping[str, Mapping[str, str]],
    abandoned: threading.Event,
    deadline: Deadline,
    *,
    to_be: str,
) -> None:
    """Have all guests of the window go on in their next process.

    ``parkings`` and ``descriptions`` are those of each guest, by name; once ``abandoned`` is set,
    no further guest is begun. ``to_be`` says in the message what a guest was not yet then. Raises
    UpdateFailed, which says of each guest that failed why.
    """
    swap = context.swap
    if swap is None:
        raise UpdateFailed("this window offers no replacement of QEMU")

    def one(name: str) -> None:
        if abandoned.is_set():
            raise UpdateFailed(f"the update was abandoned before it was {to_be}", guest=name)
        lay_out(parkings[name], descriptions[name])
        swap.swap(parkings[name], deadline)

    answers = fan_out(
        {name: partial(one, name) for name in context.guests}, deadline, what="replacing QEMU"
    )
    failed = {name: a.error for name, a in answers.items() if a.error is not None}
    if failed:
        told = "; ".join(_told(name, error) for name, error in failed.items())
        raise UpdateFailed(f"{len(failed)} of {len(answers)} guests: {told}")


def lay_out(parking: Parking, descriptions: Mapping[str, str]) -> None:
    """Make the guest's private folders, with its descriptions. Raises HarnessError."""
    keep, files = Path(parking.keep), Path(parking.files)
    left = parking.copied or not ram_links.held(keep, parking.ram)
    if left:  # of a run that ended before it parked a guest
        ram_links.remove_keep(keep)
        shutil.rmtree(files, ignore_errors=True)
    ram_links.make_keep(keep)
    try:
        public_folder(files.parent.parent, mode=0o711)  # QEMU's user passes to its commands
        private_folder(files, new=True)
    except OSError as error:
        raise UpdateFailed(f"cannot make {files}: {error.strerror}") from error
    for name, text in descriptions.items():
        write_atomically(files / name, text)


def _told(name: str, error: BaseException) -> str:
    said = error.message if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
    return f"{name}: {said}"
