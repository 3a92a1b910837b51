"""The QEMU of the box: its command line, whether it runs, its end."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

from harness.core.errors import DeadlineExpired, LabError
from harness.lab.box.state import HOST, BoxState

#: Not ``-cpu EPYC``: a box with that model went silent. ``npt``: without nested paging a guest in
#: the box is slower by far. ``erms``: a kernel that sees it fills and copies pages byte by
#: byte, which the emulator does one byte at a time (docs/reference/lab-box.md).
EMULATED_CPU = "max,+svm,+npt,-la57,-erms,-fsrm"
_CPU = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    "tcg": ("-accel", "tcg,thread=multi,tb-size=1024", "-cpu", EMULATED_CPU),
}
#: How many CPUs a box gets by default. With two of them QEMU's emulated SVM loses guests and whole
#: boxes now and then (docs/reference/lab-box.md); with one it has not, and is as quick.
CPUS = {"kvm": 2, "tcg": 1}


def free_port() -> int:
    """A port of loopback that is free now."""
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


def lives(box: BoxState) -> bool:
    """Return True if its QEMU runs; one that has ended and is our child is reaped."""
    return box.process is not None and box.process.lives()


def end(box: BoxState, at_once: bool = False) -> None:
    """End its QEMU, as pulling the plug does; ``at_once`` gives QEMU no chance to write anything.

    Raises LabError if it cannot be ended.
    """
    try:
        if box.process is not None:
            box.process.end("stopping the box", at_once=at_once)
    except DeadlineExpired as error:
        raise LabError(f"the box's QEMU (pid {box.pid}) cannot be ended") from error
