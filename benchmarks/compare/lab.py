"""The guests that are compared on, and one who reads their clocks over connections of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import libvirt

from harness.core.config import load
from harness.core.timebase import NS_PER_S, Deadline, NotYet, wait_for
from harness.guest.connector import SshConnector
from harness.host.driver import LibvirtHypervisor
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec
from harness.lab.state import LabState
from harness.maintenance.guest_access import Login
from harness.maintenance.session import GuestSession
from harness.updates.registry import FULL_CONFIG

_MACHINES_CONFIG = "/etc/default/libvirt-guests"
_GUESTS_CONFIG = "URIS=qemu:///system\nON_SHUTDOWN=suspend\nSYNC_TIME=1\nON_BOOT=start\n"


@dataclass
class Bench:
    """Running guests; ``connection`` is bare libvirt."""

    names: Sequence[str]
    connection: libvirt.virConnect
    sessions: dict[str, GuestSession]

    def residuals(self, guests: Sequence[str]) -> dict[str, tuple[float, float]]:
        """guest → (|offset|, uncertainty), milliseconds."""
        found = {}
        for name in guests:
            reading = self.sessions[name].sampler.read(8, Deadline.after(30))
            found[name] = (1000 * abs(reading.offset_s), 1000 * reading.uncertainty_s)
        return found

    def set_right(self, guests: Sequence[str]) -> None:
        """So that everybody starts alike."""
        for name in guests:
            sampler = self.sessions[name].sampler
            offset_s = sampler.read(8, Deadline.after(30)).offset_s
            sampler.step(round(-offset_s * NS_PER_S), Deadline.after(30))

    def set_by_date(self, guest: str) -> None:
        """``ssh guest date -s @$(date +%s.%N)``, over a connection that is open already."""
        now = subprocess.run(["date", "+%s.%N"], capture_output=True, text=True, check=True)
        self.sessions[guest].shell.run(f"date -s @{now.stdout.strip()}", Deadline.after(30))


@contextmanager
def bench(specs: Sequence[GuestSpec], *, persistent: bool = False) -> Iterator[Bench]:
    """A lab with ``specs``, sessions open; taken down afterwards.

    ``persistent``: known to libvirt beyond their life, as libvirt-guests needs it.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="harness-bench-"))
        os.environ["HARNESS_STATE_DIR"] = folder
        state = labs.up(specs, deadline=Deadline.after(600), progress=print)
        stack.callback(labs.down, print)
        connection = libvirt.open(state.uri)
        stack.callback(connection.close)
        if persistent:
            stack.callback(_forget, connection, [spec.name for spec in specs])
            _remember(connection, specs)
            _configure_libvirt_guests(Path(folder))
            stack.callback(subprocess.run, ["umount", _MACHINES_CONFIG], check=True)
        yield Bench([spec.name for spec in specs], connection, _log_in(state, specs, stack))


def _log_in(
    state: LabState, specs: Sequence[GuestSpec], stack: ExitStack
) -> dict[str, GuestSession]:
    config = load(state.config_file, environment={}, flags={}, model=FULL_CONFIG).config
    hypervisor = LibvirtHypervisor.open(state.uri, Deadline.after(30))
    stack.callback(hypervisor.close)
    sessions = {}
    ssh = SshConnector()
    for spec in specs:
        info = hypervisor.find(spec.name, Deadline.after(30))
        section = config.for_guest(info.name, info.uuid)
        login = Login(info, section, config.ssh, hypervisor, ssh)
        sessions[spec.name] = GuestSession.open(login, config.clock, Deadline.after(60))
        stack.callback(sessions[spec.name].close)
    return sessions


def wait_for_agents(connection: libvirt.virConnect, names: Sequence[str]) -> None:
    """``virsh domtime --sync`` needs them."""
    for name in names:
        domain = connection.lookupByName(name)

        def ask(domain: libvirt.virDomain = domain) -> None:
            try:
                domain.getTime()
            except libvirt.libvirtError as error:
                raise NotYet(str(error)) from error

        wait_for(ask, what=f"the agent of {name}", deadline=Deadline.after(120), interval_s=0.5)


def _remember(connection: libvirt.virConnect, specs: Sequence[GuestSpec]) -> None:
    for spec in specs:
        connection.defineXML(connection.lookupByName(spec.name).XMLDesc())


def _forget(connection: libvirt.virConnect, names: Sequence[str]) -> None:
    for name in names:
        domain = connection.lookupByName(name)
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


def _configure_libvirt_guests(folder: Path) -> None:
    """Over the machine's file, in the namespace's own mounts."""
    config = folder / "libvirt-guests"
    config.write_text(_GUESTS_CONFIG)
    subprocess.run(["mount", "--bind", config, _MACHINES_CONFIG], check=True)
