"""Which guests' QEMU can be replaced (kind ``qemu``), and whose RAM was kept and forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from harness.cli.finding import Finding, Level
from harness.core.errors import HarnessError
from harness.core.timebase import Deadline
from harness.host.protocol import GuestInfo, Hypervisor
from harness.host.ram_folder import backing_folder
from harness.host.ram_links import KEEP, forgotten
from harness.host.resident_setup import Host
from harness.updates.qemu.eligibility import obstacles


def examine_setup() -> Iterator[Finding]:
    """Say what this host lacks for guests whose QEMU can be replaced."""
    host = Host.this()
    try:
        lacks = list(host.missing())
    except HarnessError as error:
        yield Finding("host setup", Level.PROBLEM, error.message, error.hint or "")
        return
    for lack in lacks:
        fix = "harness setup-host --resident SIZE, of the RAM of all such guests"
        yield Finding("host setup", Level.PROBLEM, lack, fix)
    if not lacks:
        yield Finding("host setup", Level.OK, f"RAM of guests can be kept in {host.folder}")


def examine_qemu(
    guests: Sequence[GuestInfo], hypervisor: Hypervisor, deadline: Deadline, *, wanted: bool
) -> Iterator[Finding]:
    """Say of each running guest whether its QEMU can be replaced, and what fixes that.

    ``wanted``: the configuration asks for it; else a guest that cannot be is no problem.
    """
    bad = Level.PROBLEM if wanted else Level.OK
    folders = {backing_folder()}  # a guest that has ended names none
    for guest in guests:
        name = f"QEMU of {guest.name}"
        try:
            look = hypervisor.parking.look(guest.uuid, deadline)
        except HarnessError as error:
            if wanted:
                yield Finding(name, bad, error.message, error.hint or "")
            continue
        folders |= {Path(PurePath(one.path).parents[1]) for one in look.backings if one.path}
        found = obstacles(look)
        for obstacle in found:
            yield Finding(name, bad, f"cannot be replaced: {obstacle.reason}", obstacle.fix)
        if not found:
            yield Finding(name, Level.OK, f"{look.version}; can be replaced (kind qemu)")
    for folder in sorted(folders):
        for uuid, size in forgotten(folder):
            yield Finding(
                "kept RAM",
                Level.WARNING,
                f"{size / 2**20:.0f} MiB are kept for guest {uuid} in {folder / KEEP / uuid}",
                "harness recover; if no run is dead and the guest runs or has ended, remove it",
            )
