"""Which guests' QEMU can be replaced (kind ``qemu``), and whose RAM was kept and forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from harness.cli.finding import Finding, Level
from harness.core.errors import HarnessError
from harness.core.timebase import Deadline
from harness.host.protocol import GuestInfo, Hypervisor
from harness.host.ram_folder import backing_folder
from harness.host.ram_links import KEEP, forgotten
from harness.host.resident_setup import Host
from harness.updates.qemu.eligibility import Obstacle, obstacles


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
    """Say of running guests whether their QEMU can be replaced, and of RAM that was kept.

    ``wanted``: the configuration asks for it, and each guest that cannot be is a problem with its
    fix; else one line says it of all.
    """
    folders = {backing_folder()}  # a guest that has ended names none
    found: dict[str, tuple[Obstacle, ...]] = {}
    for guest in guests:
        name = f"QEMU of {guest.name}"
        try:
            look = hypervisor.parking.look(guest.uuid, deadline)
        except HarnessError as error:
            if wanted:
                yield Finding(name, Level.PROBLEM, error.message, error.hint or "")
            continue
        folders |= {Path(PurePath(one.path).parents[1]) for one in look.backings if one.path}
        found[guest.name] = obstacles(look)
        if wanted:
            yield from _of_one(name, look.version, found[guest.name])
    if found and not wanted:
        yield _of_all(found)
    for folder in sorted(folders):
        for uuid, size in forgotten(folder):
            yield Finding(
                "kept RAM",
                Level.WARNING,
                f"{size / 2**20:.0f} MiB are kept for guest {uuid} in {folder / KEEP / uuid}",
                "harness recover; if no run is dead and the guest runs or has ended, remove it",
            )


def _of_one(name: str, version: str, found: Sequence[Obstacle]) -> Iterator[Finding]:
    for obstacle in found:
        yield Finding(name, Level.PROBLEM, f"cannot be replaced: {obstacle.reason}", obstacle.fix)
    if not found:
        yield Finding(name, Level.OK, f"{version}; can be replaced (kind qemu)")


def _of_all(found: Mapping[str, Sequence[Obstacle]]) -> Finding:
    """Nothing is wrong with guests whose QEMU is not to be replaced: no fix, no line each."""
    fit = sum(not reasons for reasons in found.values())
    detail = f"not configured; it could replace the QEMU of {fit} of {len(found)} running guests"
    why = Counter(one.reason for reasons in found.values() for one in reasons)
    if why:
        counted = ", ".join(f"{reason} ({count})" for reason, count in why.most_common())
        detail += f"; not of others: {counted}; docs/how-to/qemu.md says how"
    facts = {name: [one.reason for one in reasons] for name, reasons in found.items()}
    return Finding("update kind qemu", Level.OK, detail, facts=facts)
