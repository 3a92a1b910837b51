"""Check whether this host can run a maintenance; changes nothing; each finding has its fix."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.api import Backend
from harness.cli.doctor_logins import examine_logins, problem
from harness.cli.doctor_qemu import examine_qemu, examine_setup
from harness.cli.doctor_region import examine_region
from harness.cli.finding import Finding, Level
from harness.core.errors import HarnessError
from harness.core.headroom import headroom
from harness.core.settings import Config
from harness.core.timebase import Deadline
from harness.events.sockets import bridges_of, carriers, how_to_add
from harness.guest.protocol import Connector
from harness.host.accelerator import probe, resolve
from harness.host.advice import way_on
from harness.host.clock_sync import HOW_TO_SYNCHRONISE, synchronised
from harness.host.daemon_limits import daemon_limits
from harness.host.lifecycle import GuestState
from harness.host.protocol import GuestInfo, Hypervisor
from harness.maintenance.capacity import (
    connections_of,
    how_to_raise,
    most_at_once,
    warn_of_turns,
)
from harness.maintenance.named import chosen, pick
from harness.results.folder import FREE_BYTES_WANTED
from harness.results.unfinished import dead_runs, is_handed_over
from harness.updates.possible import possible_kinds
from harness.updates.protocol import Site


def examine(
    config: Config, state_dir: Path, backend: Backend | None = None, guests: Sequence[str] = ()
) -> Iterator[Finding]:
    """Look at this box and at guests; nothing is raised for what is found.

    ``guests``: those that a person named; none: those of the configuration, else all that run.
    Raises UnknownGuest for a name that is not there.
    """
    deadline = Deadline.after(config.prepare_timeout_s)
    yield from _accelerator(config)
    yield from _host_clock()
    yield _state_folder(state_dir)
    yield _at_once()
    yield from examine_region()
    for folder in dead_runs(state_dir):
        how = "was handed over to this boot" if is_handed_over(folder) else "ended unexpectedly"
        detail = f"{folder.run_id} {how}; guests may be paused, clocks may be slow"
        yield Finding("dead run", Level.PROBLEM, detail, "harness recover")
    backend = backend or Backend.real()
    with ExitStack() as stack:
        try:
            hypervisor = stack.enter_context(backend.connect(config))
        except HarnessError as error:
            yield problem("libvirt", error)
            return
        yield from _guests(config, guests, hypervisor, backend.connector, deadline)


def _accelerator(config: Config) -> Iterator[Finding]:
    found = probe()
    try:
        resolve(config.accelerator)
    except HarnessError as error:
        yield problem("accelerator", error)
        return
    if found.accelerator == "kvm":
        yield Finding("accelerator", Level.OK, f"kvm ({found.reason})")
        return
    yield Finding(
        "accelerator",
        Level.WARNING,
        f"tcg, software emulation ({found.reason}): it works, but its timings are not KVM's",
        "for KVM's timings: a machine that has /dev/kvm, or nested virtualisation turned on in the "
        "VM that this is",
    )
    if Path("/dev/kvm").exists():
        yield Finding(
            "unusable /dev/kvm",
            Level.WARNING,
            "libvirtd probes QEMU with it again and again; starting a guest may take minutes",
            "start libvirtd in a mount namespace with /dev/null bound over /dev/kvm; "
            "`harness lab up` does so where it starts its own",
        )


def _host_clock() -> Iterator[Finding]:
    """Guests' clocks are measured against this one."""
    known = synchronised()
    if known is None:
        return
    if known:
        yield Finding("host clock", Level.OK, "synchronised")
        return
    detail = "not synchronised: guests' clocks are set by it as it is"
    yield Finding("host clock", Level.WARNING, detail, HOW_TO_SYNCHRONISE)


def _state_folder(state_dir: Path) -> Finding:
    existing = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK | os.X_OK):
        fix = "point HARNESS_STATE_DIR at a folder you may write"
        return Finding("state folder", Level.PROBLEM, f"{existing} is not writable", fix)
    detail = f"{state_dir}, {free / 2**20:.0f} MiB free"
    if free < FREE_BYTES_WANTED:
        fix = f"free some space; {FREE_BYTES_WANTED // 2**20} MiB are wanted"
        return Finding("state folder", Level.PROBLEM, detail, fix)
    return Finding("state folder", Level.OK, detail)


def _at_once() -> Finding:
    """How many guests a run from here could hold at once, by descriptors and threads."""
    most, why = most_at_once(headroom())
    if most is None:
        return Finding("guests at once", Level.OK, "no limit of descriptors or threads is known")
    level = Level.OK if most else Level.PROBLEM
    fix = "" if most else "raise that limit"
    return Finding("guests at once", level, f"at most {most}: {why}", fix, {"most": most})


def _daemon(uri: str, guests: int) -> Iterator[Finding]:
    """What libvirt's daemon takes, beside what a run of so many guests needs of it."""
    limits = daemon_limits(uri)
    if limits is None or limits.connections is None:
        return
    left, needed = limits.connections, connections_of(guests, guests)
    detail = f"{left.left} more connections ({left.by}); {guests} guests take {needed}"
    data = {"connections": left.left, "needed": needed, "workers": limits.workers}
    if left.left < needed:
        fix = how_to_raise(limits.daemon)
        yield Finding("libvirt's limits", Level.PROBLEM, detail, fix, data)
        return
    slow = warn_of_turns({"of all": guests}, limits)
    level = Level.WARNING if slow else Level.OK
    fix = f"raise max_workers in /etc/libvirt/{limits.daemon}.conf" if slow else ""
    yield Finding("libvirt's limits", level, "; ".join((detail, *slow)), fix, data)


def _guests(
    config: Config,
    names: Sequence[str],
    hypervisor: Hypervisor,
    connector: Connector,
    deadline: Deadline,
) -> Iterator[Finding]:
    host = hypervisor.host(deadline)
    detail = f"{hypervisor.uri}: libvirt {host.libvirt}, {host.hypervisor}"
    yield Finding("libvirt", Level.OK, detail)
    yield _update_kinds(config, hypervisor.uri)
    wanted, lost = _wanted(config, names, hypervisor, deadline)
    yield from lost
    yield from _daemon(hypervisor.uri, len(wanted))
    running = [info for info in wanted if info.state.state is GuestState.RUNNING]
    yield from (_not_running(info, hypervisor.uri) for info in wanted if info not in running)
    if not running:
        detail = f"none runs on {hypervisor.uri} that was asked for, so no login was tried"
        yield Finding("guests", Level.WARNING, detail, "start one; harness lab up makes some")
    resident = any(one.kind in ("qemu", "adopt") for one in config.updates)
    if resident:
        yield from examine_setup()
    yield from examine_qemu(running, hypervisor, deadline, wanted=resident)
    yield _metadata_address(config.events.address, running)
    yield from examine_logins(
        running,
        hypervisor,
        connector,
        deadline,
        sections=config.guest,
        ssh=config.ssh,
        access=config.access,
        settings=config.clock,
    )


def _wanted(
    config: Config, names: Sequence[str], hypervisor: Hypervisor, deadline: Deadline
) -> tuple[list[GuestInfo], list[Finding]]:
    """Return the guests to look at, and findings about those of the configuration not there."""
    known = hypervisor.guests(deadline)
    if names or not config.guest:
        configured = [section.name for section in config.guest]
        return chosen(known, names, configured, hypervisor.uri), []
    found, lost = [], []
    for section in config.guest:
        try:
            found += pick(known, [section.name], hypervisor.uri)
        except HarnessError as error:
            lost.append(problem(f"guest {section.name}", error))
    return found, lost


def _not_running(info: GuestInfo, uri: str) -> Finding:
    fix = way_on(info.state, uri, info.name, info.uuid)
    if info.state.state is GuestState.PAUSED:
        fix = f"harness recover, if a run of harness paused it; else {fix}"
    return Finding(f"guest {info.name}", Level.PROBLEM, f"is {info.state}", fix)


def _update_kinds(config: Config, uri: str) -> Finding:
    """Which kinds could be applied from here, whatever their settings; a problem: not the own."""
    asked = dict(possible_kinds(Site(uri)))
    refused = {kind: error for kind, error in asked.items() if error is not None}
    can = ", ".join(kind for kind in asked if kind not in refused)
    cannot = "".join(f"; not {kind}: {error.message}" for kind, error in refused.items())
    own = next((refused[one.kind] for one in config.updates if one.kind in refused), None)
    hints = dict.fromkeys(error.hint for error in refused.values() if error.hint)
    return Finding(
        "update kinds",
        Level.OK if own is None else Level.PROBLEM,
        f"{can}{cannot}",
        "; ".join(hints) if own is None else own.hint or "",
        {kind: error is None for kind, error in asked.items()},
    )


def _metadata_address(address: str, guests: Sequence[GuestInfo]) -> Finding:
    """Whether guests could be told beforehand (``run --notify``); a maintenance goes without."""
    devices = carriers(address)
    if devices:
        return Finding("metadata address", Level.OK, f"{address} on {', '.join(devices)}")
    detail = f"no interface carries {address}, so guests cannot be told of a pause (run --notify)"
    bridges = bridges_of(tap for guest in guests for _, tap in guest.taps)
    return Finding("metadata address", Level.WARNING, detail, how_to_add(address, bridges))
