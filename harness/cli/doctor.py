"""Check whether this host can run a maintenance; changes nothing; each finding has its fix."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from harness.api import Backend
from harness.cli.doctor_qemu import examine_qemu
from harness.cli.finding import Finding, Level
from harness.core.errors import HarnessError
from harness.core.fanout import fan_out
from harness.core.settings import Config
from harness.core.timebase import Deadline
from harness.events.sockets import bridges_of, carriers, how_to_add
from harness.guest.protocol import Connector
from harness.host.accelerator import probe, resolve
from harness.host.advice import way_on
from harness.host.lifecycle import GuestState
from harness.host.protocol import GuestInfo, Hypervisor
from harness.maintenance.admission import HINT_UNBOUND, UNBOUND, Claims, admit
from harness.maintenance.session import Login
from harness.results.folder import FREE_BYTES_WANTED
from harness.results.unfinished import dead_runs

_FIX_FAR = "raise its tolerance, or run harness nearer to the guest"


def examine(config: Config, state_dir: Path, backend: Backend | None = None) -> Iterator[Finding]:
    """Look at this box and at the configured guests; never raises for what it finds."""
    deadline = Deadline.after(config.prepare_timeout_s)
    yield from _accelerator(config)
    yield _state_folder(state_dir)
    for folder in dead_runs(state_dir):
        detail = f"{folder.run_id} came to no good end; guests may be paused, clocks may be slow"
        yield Finding("dead run", Level.PROBLEM, detail, "harness recover")
    backend = backend or Backend.real()
    with ExitStack() as stack:
        try:
            hypervisor = stack.enter_context(backend.connect(config))
        except HarnessError as error:
            yield _problem("libvirt", error)
            return
        yield from _guests(config, hypervisor, backend.connector, deadline)


def _problem(name: str, error: HarnessError) -> Finding:
    where = f"{error.guest}: " if error.guest else ""
    return Finding(name, Level.PROBLEM, f"{where}{error.message}", error.hint or "")


def _accelerator(config: Config) -> Iterator[Finding]:
    found = probe()
    try:
        resolve(config.accelerator)
    except HarnessError as error:
        yield _problem("accelerator", error)
        return
    if found.accelerator == "kvm":
        yield Finding("accelerator", Level.OK, f"kvm ({found.reason})")
        return
    yield Finding(
        "accelerator",
        Level.WARNING,
        f"tcg, software emulation ({found.reason}): it works, but its timings are not KVM's",
        "use a box with hardware virtualisation for figures that matter",
    )
    if Path("/dev/kvm").exists():
        yield Finding(
            "unusable /dev/kvm",
            Level.WARNING,
            "libvirtd probes QEMU with it again and again; starting a guest may take minutes",
            "start libvirtd in a mount namespace with /dev/null bound over /dev/kvm; "
            "`harness lab up` does so where it starts its own",
        )


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


def _guests(
    config: Config, hypervisor: Hypervisor, connector: Connector, deadline: Deadline
) -> Iterator[Finding]:
    host = hypervisor.host(deadline)
    detail = f"{hypervisor.uri}: libvirt {host.libvirt}, {host.hypervisor}"
    yield Finding("libvirt", Level.OK, detail)
    running = []
    for section in config.guest:
        try:
            info = hypervisor.find(section.name, deadline)
        except HarnessError as error:
            yield _problem(f"guest {section.name}", error)
            continue
        if info.state.state is GuestState.RUNNING:
            running.append(info)
        else:
            fix = way_on(info.state, hypervisor.uri, info.name, info.uuid)
            if info.state.state is GuestState.PAUSED:
                fix = f"harness recover, if a run of ours paused it; else {fix}"
            yield Finding(f"guest {info.name}", Level.PROBLEM, f"is {info.state}", fix)
    wanted = config.update.kind == "qemu"
    yield from examine_qemu(running, hypervisor, deadline, wanted=wanted)
    yield _metadata_address(config.events.address, running)
    yield from _logins(running, config, hypervisor, connector, deadline)


def _metadata_address(address: str, guests: Sequence[GuestInfo]) -> Finding:
    """Whether guests could be told beforehand (``run --notify``); a maintenance goes without."""
    devices = carriers(address)
    if devices:
        return Finding("metadata address", Level.OK, f"{address} on {', '.join(devices)}")
    detail = f"no interface carries {address}, so guests cannot be told of a pause (run --notify)"
    bridges = bridges_of(tap for guest in guests for _, tap in guest.taps)
    return Finding("metadata address", Level.WARNING, detail, how_to_add(address, bridges))


def _logins(
    guests: Sequence[GuestInfo],
    config: Config,
    hypervisor: Hypervisor,
    connector: Connector,
    deadline: Deadline,
) -> Iterator[Finding]:
    claims = Claims()

    def look(info: GuestInfo) -> Finding:
        section = config.for_guest(info.name, info.uuid)
        login = Login(info, section, config.ssh, hypervisor, connector)
        session = admit(login, config.clock, claims, deadline)
        try:
            facts = session.facts
            detail = (
                f"{info.accelerator}, {session.address} ({session.address_from}), "
                f"kernel {facts.kernel}, clock by "
                f"{session.sampler.interpreter} ± {session.tolerance_s * 1000:g} ms, "
                f"time daemon {facts.daemon_told}"
            )
            policy = session.policy()
            reading = session.sampler.read_well(policy.samples, policy.tolerance_s / 2, deadline)
            if unsure := policy.cannot_judge(reading):
                detail += f"; its clock is {unsure}, so it would be judged ERROR after a pause"
                return Finding(f"guest {info.name}", Level.WARNING, detail, _FIX_FAR)
            if session.identity.bound_by is not None:
                return Finding(f"guest {info.name}", Level.OK, detail)
            unsure = f"{detail}; {UNBOUND}: {session.identity.detail}"
            return Finding(f"guest {info.name}", Level.WARNING, unsure, HINT_UNBOUND)
        finally:
            session.close()

    calls = {info.name: partial(look, info) for info in guests}
    for name, answer in fan_out(calls, deadline, what="logging in").items():
        error = claims.refused.get(name) or answer.error
        if isinstance(error, HarnessError):
            yield _problem(f"guest {name}", error)
        else:
            yield answer.get()
