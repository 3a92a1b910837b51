"""The QEMU of the box: its command line, its start, its end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from contextlib import closing, suppress
from pathlib import Path

from harness.core.errors import DeadlineExpired, LabError, MissingCapability
from harness.core.identity import start_ticks
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.lab.box.state import HOST, BoxState

#: Not ``-cpu EPYC``: a box with that model went silent. ``npt``: without nested paging a guest in
#: the box is slower by far.
_CPU = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    "tcg": ("-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max,+svm,+npt,-la57"),
}
#: How many CPUs a box gets unless somebody says. With two of them QEMU's emulated SVM loses
#: guests and whole boxes now and then (docs/lab-box.md); with one it has not, and is as quick.
CPUS = {"kvm": 2, "tcg": 1}
_STOP_S = 10.0
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def command(box: BoxState, kernel: Path, folder: Path) -> list[str]:
    """How QEMU is started for ``box``; ``folder`` holds its initrd and disk."""
    network = f"user,id=net,restrict=on,hostfwd=tcp:{HOST}:{box.port}-:22"
    # A comma in a value is written twice.
    disk = str(folder / "disk.qcow2").replace(",", ",,")
    serial = str(folder / "serial.log").replace(",", ",,")
    return [
        *("qemu-system-x86_64", "-name", "harness-box", "-machine", "q35", *_CPU[box.accelerator]),
        *("-smp", str(box.cpus), "-m", f"{box.memory_mib}M"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", "on"),
        *("-kernel", str(kernel), "-initrd", str(folder / "initrd")),
        *("-append", "console=ttyS0 quiet"),
        *("-drive", f"if=none,id=disk,format=qcow2,cache=unsafe,file={disk}"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile="),
        *("-device", "virtio-rng-pci", "-rtc", "base=utc,clock=host"),
        *("-serial", f"file:{serial}"),
    ]


def start(words: list[str], log: Path) -> tuple[int, int]:
    """Start QEMU so that it outlives us; its pid and start time."""
    program = shutil.which(words[0])
    if program is None:
        raise MissingCapability("qemu", f"{words[0]} is not installed", hint="make setup")
    output = os.open(log, _LOG_FLAGS, 0o600)
    try:
        # Not subprocess: QEMU is meant to outlive this process, which would complain.
        pid = os.posix_spawn(
            program,
            words,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(output)
    return pid, start_ticks(pid)


def lives(box: BoxState) -> bool:
    """Whether its QEMU runs; one that has ended and is our child is reaped."""
    if box.pid is not None:
        with suppress(ChildProcessError):
            os.waitpid(box.pid, os.WNOHANG)
    return box.alive


def end(box: BoxState, at_once: bool = False) -> None:
    """End its QEMU, as pulling the plug does; ``at_once`` gives QEMU no chance to write anything.

    Raises LabError if it cannot be ended.
    """
    for sign in (signal.SIGKILL,) if at_once else (signal.SIGTERM, signal.SIGKILL):
        with suppress(DeadlineExpired):
            return _signal(box, sign)
    raise LabError(f"the box's QEMU (pid {box.pid}) cannot be ended")


def _signal(box: BoxState, sign: signal.Signals) -> None:
    if box.pid is None or not lives(box):
        return
    with suppress(ProcessLookupError):
        os.kill(box.pid, sign)

    def look() -> None:
        if lives(box):
            raise NotYet(f"pid {box.pid} is still there")

    wait_for(look, what="stopping the box", deadline=Deadline.after(_STOP_S), interval_s=0.05)
