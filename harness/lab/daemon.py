"""The lab's own libvirtd, for where none answers: started, remembered by pid and start time, ended.

Where KVM is not usable, a ``/dev/kvm`` that QEMU's user may open makes libvirt probe QEMU again for
every guest, which costs many seconds each time. The daemon is then started in a mount namespace
of its own where ``/dev/kvm`` is a device that no user may open: see docs/adr/0008-lab-files.md.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import (
    ConnectionLost,
    HypervisorError,
    LabError,
    MissingCapability,
)
from harness.core.files import last_lines
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.accelerator import probe
from harness.host.driver import LibvirtHypervisor
from harness.lab import detached
from harness.lab.detached import Detached

Progress = Callable[[str], None]

#: In the order in which they are started; ended in reverse.
_DAEMONS = ("virtlogd", "libvirtd")
_START_S = 30.0
#: A constant, given to a shell because bind-mounting and becoming the daemon are two steps.
_MASK_KVM = 'mount --bind "$1" /dev/kvm && exec "$0"'


@dataclass(frozen=True)
class Daemon:
    """A process that we started; pid and start time together name it and no other."""

    name: str
    pid: int
    start_ticks: int

    @property
    def process(self) -> Detached:
        """The process, whether it lives or not."""
        return Detached(self.pid, self.start_ticks)


def answers(uri: str) -> bool:
    """Whether a libvirt answers at ``uri``. Raises HypervisorError if it answers with a no."""
    try:
        LibvirtHypervisor.open(uri, Deadline.after(_START_S)).close()
    except ConnectionLost as error:
        if error.hint and os.geteuid() != 0:
            raise
        return False
    return True


def ensure(
    uri: str, logs: Path, progress: Progress, keep_open: int | None = None
) -> Sequence[Daemon]:
    """Start virtlogd and libvirtd if nothing answers at ``uri``; return what was started.

    The daemons inherit the descriptor ``keep_open`` and hold it for as long as they live.
    Raises MissingCapability if they are not installed or we are not root, LabError if they do
    not come up.
    """
    if answers(uri):
        return []
    if os.geteuid() != 0:
        raise MissingCapability(
            "libvirtd", f"no libvirt answers at {uri}", hint="start libvirtd, or be root"
        )
    progress("starting a libvirtd for the lab, because none answers")
    started: list[Daemon] = []
    try:
        for name in _DAEMONS:
            started.append(_start(name, logs, keep_open))
        _wait_until_it_answers(uri, started[-1], logs)
    except BaseException:
        stop(started)
        raise
    return started


def _start(name: str, logs: Path, keep_open: int | None) -> Daemon:
    program = shutil.which(name)
    if program is None:
        raise MissingCapability(name, f"{name} is not installed", hint="make setup")
    command = [program]
    if Path("/dev/kvm").exists() and probe().accelerator != "kvm":
        mask = _device_nobody_may_open(logs / "no-kvm")
        command = ["unshare", "--mount", "sh", "-c", _MASK_KVM, program, str(mask)]
    started = detached.start(command, logs / f"{name}.log", keep_open=keep_open)
    return Daemon(name, started.pid, started.start_ticks)


def _device_nobody_may_open(path: Path) -> Path:
    """``/dev/null`` with mode 0. A device, because libvirt gives each guest a copy of it."""
    if not path.exists():
        os.mknod(path, stat.S_IFCHR, os.makedev(1, 3))
    return path


def _wait_until_it_answers(uri: str, daemon: Daemon, logs: Path) -> None:
    def probe_it() -> None:
        if not daemon.process.lives():
            said = last_lines(logs / f"{daemon.name}.log") or "no message"
            raise LabError(f"{daemon.name} ended at once: {said}")
        try:
            LibvirtHypervisor.open(uri, Deadline.after(_START_S)).close()
        except HypervisorError as error:
            raise NotYet(str(error)) from error

    wait_for(probe_it, what="starting libvirtd", deadline=Deadline.after(_START_S))


def stop(daemons: Sequence[Daemon]) -> None:
    """End what ``ensure`` started, last first. Raises DeadlineExpired if one cannot be ended."""
    for daemon in reversed(daemons):
        daemon.process.end(f"stopping {daemon.name}")
