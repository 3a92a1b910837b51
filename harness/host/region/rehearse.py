"""Rehearsing a kexec of this host, with no guest: this kernel starts itself again, once.

Services end as they do when the kernel is replaced under guests: disks are synced, and nothing is
asked. What the next boot makes of it is in :mod:`harness.host.region.rehearsal`.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness.core.errors import InfrastructureError, MissingCapability, UsageError
from harness.core.process_stat import PROC
from harness.core.timebase import utc_now
from harness.host.kernel import kexec
from harness.host.luo import sessions
from harness.host.region import rehearsal
from harness.host.region.facts import HostFacts
from harness.host.region.lacks import lacks_of_memory, unfit_for_kexec
from harness.host.region.place import words

BOOT = Path("/boot")
_NEVER_AGAIN = f"{rehearsal.WORD}="


@dataclass(frozen=True)
class Start:
    """What is to be started."""

    kernel: Path
    initrd: Path
    command_line: str
    word: str


def prepared(facts: HostFacts, *, boot: Path = BOOT, proc: Path = PROC) -> Start:
    """Return what would be started; changes nothing.

    Raises UsageError while a guest runs, or where the region is not in force; MissingCapability
    where this host cannot start a kernel, or its files are not there.
    """
    guests = emulators(proc)
    if guests:
        raise UsageError(
            f"guests run on this host, and would end: QEMU {', '.join(map(str, guests))}",
            hint="shut them down, or move them, first",
        )
    for lack in lacks_of_memory(facts) if facts.enrolled or not sessions.is_there() else ():
        raise UsageError(lack.reason, hint=lack.fix)
    for lack in unfit_for_kexec(facts):
        raise MissingCapability("kexec", lack.reason, hint=lack.fix)
    release = os.uname().release
    kernel, initrd = boot / f"vmlinuz-{release}", boot / f"initrd.img-{release}"
    for file in (kernel, initrd):
        if not file.is_file():
            raise MissingCapability(
                str(file), f"{file}, of the kernel that runs, is not there", hint="install it again"
            )
    word = f"{_NEVER_AGAIN}{secrets.token_hex(8)}"
    kept = [one for one in facts.command_line.split(" ") if not one.startswith(_NEVER_AGAIN)]
    at = kept.index("--") if "--" in kept else len(kept)
    return Start(kernel, initrd, " ".join([*kept[:at], word, *kept[at:]]), word)


def leave(start: Start, facts: HostFacts, begun: Path = rehearsal.BEGUN) -> NoReturn:
    """Start it: the end of every process of this host.

    Raises HarnessError if it is refused; then everything goes on as before.
    """
    if start.word not in words(start.command_line):
        raise InfrastructureError("the next kernel could not be told from another")
    found = rehearsal.Rehearsal(
        utc_now().isoformat(timespec="seconds"),
        os.uname().release,
        dict(facts.hardware),
        start.word,
    )
    kexec.load(start.kernel, start.initrd, start.command_line)
    rehearsal.write(found, begun)
    try:
        os.sync()
        kexec.start()
    except BaseException:
        begun.unlink(missing_ok=True)
        kexec.unload()
        raise


def emulators(proc: Path = PROC) -> list[int]:
    """Return the pids of all processes that are QEMU system emulators, libvirt's or not."""
    found = []
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                if (folder / "comm").read_text().startswith(("qemu-system", "qemu-kvm")):
                    found.append(int(folder.name))
    return sorted(found)
