"""A boot of the host takes over what was handed over: the region is looked at, and that is written.

By the program that runs before init, or else by ``harness recover`` afterwards, on the new kernel
or, after a reset, on the old one. From then on guests are brought back as those of any
dead run are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.core import tsc
from harness.core.errors import InfrastructureError
from harness.core.identity import boot_id
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.kernel import early, magic
from harness.host.region.device import block_device
from harness.host.region.place import Region, is_set_aside
from harness.maintenance.pause.parkable import parkable
from harness.results.journal import History, Journal, entries, fold
from harness.updates.kernel.plan import LUO, ThawPlan

IOMEM = Path("/proc/iomem")
#: Of the region; the plan names the others.
MODULES = ("nd_e820", "nd_pmem")
#: Its drivers are loaded by then: one that is not there after so long does not come.
_DEVICE_S = 20.0
_RAM_OPTIONS = "dax,noatime,nosuid,nodev,noexec"


def is_awaited(history: History) -> bool:
    """Return True if guests were handed over, and no boot has taken them over, or not this one."""
    return history.left is not None and not history.ended and history.boot_id != boot_id()


def arrive(
    plan: ThawPlan, journal: Journal, by: str, clock_set: tuple[int, int] | None = None
) -> History:
    """Write down that this boot has taken over, and where everything is by now; return the fold.

    ``clock_set``: by how much CLOCK_REALTIME was set, and how well it is known. Raises
    InfrastructureError where the region cannot be looked at (yet): then nothing is written.
    """
    found: Mapping[str, Mapping[str, str]] = {}
    if plan.resident == LUO:
        from harness.maintenance.thaw import preserved  # only where guests wait for it

        problem, found = preserved.take_over(plan)
    else:
        problem = region_problem(plan)
    moved_ns, uncertainty_ns = clock_set or (None, None)
    here = entries.Arrived(
        boot_id(), os.uname().release, by, moved_ns, uncertainty_ns, problem=problem
    )
    journal.intend(here)
    if not problem:
        device = os.stat(plan.ram_folder).st_dev
        known = fold(journal.read()).parkable
        for guest in plan.guests:
            said = known.get(guest.uuid) or parkable(guest, {}, {})  # its line may be lost
            said = on_device(said, device)
            journal.intend(replace(said, ram=found[guest.uuid]) if found else said)
    return fold(journal.read())


def mount_region(plan: ThawPlan, deadline: Deadline) -> None:
    """Mount it where this kernel has it; where it has not, there is nothing to wait for.

    Raises InfrastructureError or DeadlineExpired.
    """
    if plan.resident == LUO:
        from harness.maintenance.thaw import preserved

        preserved.mount_folder(plan)
        return
    region, folder = Region(plan.region_start, plan.region_size), Path(plan.ram_folder)
    if folder.is_mount() or not is_set_aside(region, IOMEM.read_text()):
        return

    def look() -> Path:
        device = block_device(region)
        if device is None or not device.exists():
            raise NotYet(f"no device of {region}")
        return device

    until = deadline.sooner(_DEVICE_S)  # the host has to come up
    device = wait_for(look, what="waiting for the region", deadline=until, interval_s=0.01)
    early.mount(str(device), folder, "ext4", _RAM_OPTIONS)


def region_problem(plan: ThawPlan) -> str:
    """Return why nothing in the region may be used; empty if it is what it was.

    Raises InfrastructureError where it is set aside, but not mounted (yet).
    """
    region = Region(plan.region_start, plan.region_size)
    try:
        iomem = IOMEM.read_text()
    except OSError as error:
        raise InfrastructureError(f"{IOMEM}: {error.strerror}") from error
    if not is_set_aside(region, iomem):
        return f"this kernel has not set aside {region}: it may have used that memory"
    folder = Path(plan.ram_folder)
    if not folder.is_mount():
        raise InfrastructureError(f"{folder} is not mounted")
    return magic.problem(folder, plan.magic)


def on_device(guest: entries.Parkable, device: int) -> entries.Parkable:
    """Return how a guest is brought back where its RAM files are on another ``device`` by now.

    The number of a device is one boot's; the files and their inodes are the file system's.
    """
    ram = {name: f"{device}:{one.partition(':')[2]}" for name, one in guest.ram.items()}
    return replace(guest, ram=ram, qemu_pid=None, qemu_start_ticks=None)


def set_clock(history: History) -> tuple[int, int] | None:
    """Set this host's CLOCK_REALTIME by the counter's last pair, where the counter has gone on.

    Returns by how much, and how well it is known; None where it cannot be: a reset of the machine
    sets the counter back. Raises OSError or MissingCapability.
    """
    left = history.left
    if left is None or left.counts_per_ns <= 0:
        return None
    then = tsc.Pair(left.tsc, left.at_realtime_ns, left.width)
    if not tsc.has_gone_on(then, tsc.realtime()):
        return None
    return tsc.set_realtime(then, left.counts_per_ns)
