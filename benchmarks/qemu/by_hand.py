"""Without libvirt: QEMU and its monitor, the least that there can be.

*By hand* does what libvirt is made to do: state to a file, RAM left where it is, the new QEMU
started in the pause. *cpr-transfer* is QEMU's own way from 10.0 on: the new QEMU is there before
the pause, and is handed the RAM's descriptors. *cpr-exec*, from 10.2 on, loads the new program into
the same process, which keeps them.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.qemu.steps import Laps, Pause
from harness.core.timebase import SYSTEM_CLOCK, Deadline, NotYet, wait_for
from harness.host.start_commands import capability

_LOOK_S = 0.0005


class Monitor:
    """QMP over a socket; one that is not there yet is waited for."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)

        def connect() -> None:
            try:
                self._socket.connect(str(path))
            except OSError as error:
                raise NotYet(str(error)) from error

        wait_for(connect, what=f"{path.name}", deadline=_soon(), interval_s=_LOOK_S)
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> Any:
        """What QEMU answers. Raises RuntimeError."""
        asked = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self._file.write(json.dumps(asked) + "\n")
        self._file.flush()
        while True:
            line = self._file.readline()
            if not line:
                raise RuntimeError(f"QEMU has ended instead of {command}")
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def until(self, query: str, *wanted: str) -> None:
        """Ask until the status is one of ``wanted``."""
        until = _soon()
        while (status := self(query).get("status")) not in wanted:
            if status == "failed" or until.expired:
                raise RuntimeError(f"{query}: {status}")
            SYSTEM_CLOCK.sleep(_LOOK_S)

    def quit(self, process: subprocess.Popen[bytes]) -> None:
        """End this QEMU and wait for it."""
        with suppress(RuntimeError, OSError):
            self("quit")
        process.wait(30)
        self.close()

    def close(self) -> None:
        """Let go of a monitor whose QEMU is another program by now."""
        self._socket.close()


@dataclass(frozen=True)
class Machine:
    """A QEMU without libvirt and how it is started; like a tiny guest of the lab, without SSH."""

    qemu: list[str]
    """Program and what it needs to find its own files."""
    kernel: Path
    initrd: Path
    memory_mib: int
    folder: Path

    def start(self, tag: str, ram: str, *more: str) -> subprocess.Popen[bytes]:
        """Start one whose monitor is ``TAG.qmp`` and console ``TAG.serial``."""
        command = self.command(tag, ram, *more)
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def command(self, tag: str, ram: str, *more: str) -> list[str]:
        """Return how :meth:`start` starts it."""
        return [
            *self.qemu, "-machine", "q35,memory-backend=pc.ram,aux-ram-share=on"
            if "memfd" in ram else "q35,memory-backend=pc.ram",
            "-object", f"{ram},id=pc.ram,size={self.memory_mib}M,share=on",
            "-m", str(self.memory_mib), "-cpu", "qemu64", "-display", "none", "-nodefaults",
            "-no-user-config", "-vga", "none", "-kernel", str(self.kernel),
            "-initrd", str(self.initrd), "-append", "console=ttyS0 quiet",
            "-serial", f"file:{self.folder / tag}.serial",
            "-netdev", "hubport,hubid=0,id=n", "-device", "virtio-net-pci,netdev=n,romfile=",
            "-device", "virtio-rng-pci", "-qmp", f"unix:{self.folder / tag}.qmp,server=on,wait=off",
            *more,
        ]  # fmt: skip


@contextmanager
def hand(machine: Machine) -> Iterator[Hand]:
    """A guest that has booted, for :meth:`Hand.pause`; ended afterwards."""
    found = Hand(machine)
    try:
        yield found
    finally:
        found.end()


class Hand:
    """State by a file, RAM by a file: what libvirt is made to do, by QMP."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._file = machine.folder / "hand.ram"
        self._ram = f"memory-backend-file,mem-path={self._file}"
        self._number = 0
        self._process = machine.start("hand0", self._ram)
        self._monitor = Monitor(machine.folder / "hand0.qmp")
        _booted(machine.folder / "hand0.serial")

    def pause(self) -> Pause:
        """Replace it by the same QEMU."""
        self._number += 1
        tag, state = f"hand{self._number}", self._machine.folder / "state"
        monitor = self._monitor
        laps = Laps()
        monitor("stop")
        laps.lap("pausing")
        monitor("migrate-set-capabilities", **capability(on=True))
        monitor("migrate", uri=f"exec:cat >{state}")
        monitor.until("query-migrate", "completed")
        monitor.quit(self._process)
        laps.lap("parking")
        self._process = self._machine.start(tag, self._ram, "-S", "-incoming", "defer")
        self._monitor = monitor = Monitor(self._machine.folder / f"{tag}.qmp")
        monitor("migrate-set-capabilities", **capability(on=True))
        monitor("migrate-incoming", uri=f"exec:cat {state}")
        monitor.until("query-migrate", "completed")
        laps.lap("unparking")
        monitor("cont")
        laps.lap("resuming")
        return laps.pause

    def end(self) -> None:
        """End it, and remove its RAM."""
        self._monitor.quit(self._process)
        self._file.unlink()


@contextmanager
def transfer(machine: Machine) -> Iterator[Transfer]:
    """A guest that has booted, for :meth:`Transfer.pause`; ended afterwards."""
    found = Transfer(machine)
    try:
        yield found
    finally:
        found.end()


class Transfer:
    """QEMU's ``cpr-transfer``; needs QEMU 10."""

    _RAM = "memory-backend-memfd"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._number = 0
        self._process = machine.start("cpr0", self._RAM)
        self._monitor = Monitor(machine.folder / "cpr0.qmp")
        _booted(machine.folder / "cpr0.serial")

    def pause(self) -> Pause:
        """Hand the guest over to another QEMU, which is started before the pause."""
        self._number += 1
        tag = f"cpr{self._number}"
        channels = [self._channel(kind) for kind in ("main", "cpr")]
        sockets = [Path(channel["addr"]["path"]) for channel in channels]
        for old in sockets:
            old.unlink(missing_ok=True)
        incoming = [word for one in channels for word in ("-incoming", json.dumps(one))]
        process = self._machine.start(tag, self._RAM, *incoming)
        _there(sockets[1])
        monitor = self._monitor
        monitor("migrate-set-parameters", mode="cpr-transfer")
        laps = Laps()
        monitor("stop")
        laps.lap("pausing")
        monitor("migrate", channels=channels)
        new = Monitor(self._machine.folder / f"{tag}.qmp")
        new.until("query-status", "paused", "running", "postmigrate")
        laps.lap("unparking")
        new("cont")
        laps.lap("resuming")
        monitor.quit(self._process)
        self._process, self._monitor = process, new
        return laps.pause

    def _channel(self, kind: str) -> dict[str, Any]:
        path = str(self._machine.folder / f"{kind}.sock")
        return {
            "channel-type": kind,
            "addr": {"transport": "socket", "type": "unix", "path": path},
        }

    def end(self) -> None:
        """End it."""
        self._monitor.quit(self._process)


@contextmanager
def execute(machine: Machine) -> Iterator[Exec]:
    """A guest that has booted, for :meth:`Exec.pause`; ended afterwards."""
    found = Exec(machine)
    try:
        yield found
    finally:
        found.end()


class Exec:
    """QEMU's ``cpr-exec``; needs QEMU 10.2."""

    _RAM = "memory-backend-memfd"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._number = 0
        self._process = machine.start("exec0", self._RAM)
        self._monitor = Monitor(machine.folder / "exec0.qmp")
        _booted(machine.folder / "exec0.serial")

    def pause(self) -> Pause:
        """Have the process load its program anew, in the pause."""
        self._number += 1
        tag = f"exec{self._number}"
        uri = f"file:{self._machine.folder / 'exec.state'}"
        command = self._machine.command(tag, self._RAM, "-incoming", uri)
        monitor = self._monitor
        monitor("migrate-set-parameters", mode="cpr-exec", **{"cpr-exec-command": command})
        laps = Laps()
        monitor("stop")
        laps.lap("pausing")
        monitor("migrate", uri=uri)
        new = Monitor(self._machine.folder / f"{tag}.qmp")
        new.until("query-status", "paused", "running", "postmigrate")
        laps.lap("unparking")
        new("cont")
        laps.lap("resuming")
        monitor.close()
        self._monitor = new
        return laps.pause

    def end(self) -> None:
        """End it."""
        self._monitor.quit(self._process)


def _booted(serial: Path) -> None:
    def look() -> None:
        if not serial.exists() or "tiny: ready" not in serial.read_text(errors="replace"):
            raise NotYet("no message that it is ready")

    wait_for(look, what="the boot", deadline=Deadline.after(120), interval_s=0.2)


def _there(path: Path) -> None:
    def look() -> None:
        if not path.exists():
            raise NotYet(f"no {path.name}")

    wait_for(look, what=path.name, deadline=_soon(), interval_s=_LOOK_S)


def _soon() -> Deadline:
    return Deadline.after(60)
