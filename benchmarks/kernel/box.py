"""The emulated host: a lab box that can be left by kexec, its serial ports stamped from outside."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from harness.lab.box.qemu import EMULATED_CPU, free_port
from harness.lab.images import Image
from harness.lab.keys import new_key
from harness.lab.seed import Seed, append_to_initrd

PLAIN = "console=ttyS0 quiet mitigations=off nowatchdog"
LINE = f"{PLAIN} memmap=1G!4G"
PORTS = ("host", "g1", "g2")
#: One: where there are as many as this machine has, other work on it is in all figures.
CPUS = os.environ.get("HARNESS_BOX_CPUS", "1")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SSH = (
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
)


@dataclass(frozen=True)
class Line:
    """What came over a serial port: when, by how much CPU time of the whole host until then."""

    at_s: float
    cpu_s: float
    text: str
    wall_s: float


@dataclass
class Box:
    """One emulated host; ``lines`` of each of its serial ports."""

    folder: Path
    image: Image
    qemu: Path
    """A folder with a QEMU >= 10: with an older one a kernel that was started by kexec died."""
    line: str = LINE
    """What its kernel is booted with; another one may be given to :meth:`boot`."""
    more: tuple[str, ...] = ()
    """Devices besides, as words of QEMU's."""
    lines: dict[str, list[Line]] = field(default_factory=lambda: {port: [] for port in PORTS})

    def __enter__(self) -> Self:
        key, host_key = new_key(), new_key()
        self.host_key = host_key.public
        self.key = self.folder / "key"
        self.key.touch(mode=0o600)
        self.key.write_text(key.private)
        assert self.image.initrd is not None
        initrd, disk = self.folder / "initrd", self.folder / "disk.qcow2"
        append_to_initrd(self.image.initrd, Seed("bench-kernel", host_key, key.public), initrd)
        make = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
        subprocess.run([*make, "-b", str(self.image.disk), str(disk)], check=True)
        self._port = free_port()
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def boot(self, line: str | None = None) -> None:
        """Give it power, by its own disk; it has none when it has ended (`-no-reboot`)."""
        self.line = line or self.line
        listeners = [self._listener(port) for port in PORTS]
        words = self._words(self.folder / "initrd", self.folder / "disk.qcow2")
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        for port, listener in zip(PORTS, listeners, strict=True):
            connection, _ = listener.accept()
            listener.close()
            threading.Thread(target=self._read, args=(port, connection), daemon=True).start()

    def cut(self) -> None:
        """Take its power away."""
        self._process.kill()
        self._process.wait()

    def ended(self, patience_s: float = 600) -> None:
        """Wait until it has powered off, or rebooted, by itself."""
        self._process.wait(timeout=patience_s)

    @contextmanager
    def kept_by_a_reset(self) -> Iterator[None]:
        """For a ``with``, a reset starts the machine once more, with its RAM; else it has ended."""
        self._tell("set-action", reboot="reset")
        try:
            yield
        finally:
            self._tell("set-action", reboot="shutdown")

    def reset(self) -> None:
        """Press its button."""
        self._tell("system_reset")

    def _tell(self, command: str, **arguments: str) -> None:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.folder / "qmp.socket"))
            with monitor.makefile("rw") as file:
                file.readline()  # the greeting
                for name, said in (("qmp_capabilities", {}), (command, arguments)):
                    file.write(json.dumps({"execute": name, "arguments": said}) + "\n")
                    file.flush()
                    answer = json.loads(file.readline())
                    assert "error" not in answer, answer

    def sh(self, command: str, feed: bytes | None = None) -> str:
        """Run a line of shell in it, once it answers."""
        words = self.ssh_words(command)
        for _ in range(60):
            done = subprocess.run(words, input=feed or b"", capture_output=True)
            if done.returncode != 255:
                break
            time.sleep(2)
        if done.returncode:
            raise SystemExit(f"{command}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()

    def ssh_words(self, command: str) -> list[str]:
        """How this machine has a line of shell run in it."""
        way = ["-i", str(self.key), "-p", str(self._port), "root@127.0.0.1"]
        return ["ssh", "-F", "/dev/null", *_SSH, *way, command]

    def wait(
        self,
        port: str,
        wanted: str,
        after: int = 0,
        patience_s: float = 900,
        each_s: float = 0.2,
    ) -> Line:
        """Wait until a line of a port has ``wanted`` in it; looks at it ``each_s``."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            for line in self.lines[port][after:]:
                if re.search(wanted, line.text):
                    return line
            if self._process.poll() is not None:
                raise SystemExit("the box has ended")
            time.sleep(each_s)
        raise SystemExit(f"{port} never said {wanted!r}; last: {self.lines[port][-3:]}")

    def _words(self, initrd: Path, disk: Path) -> list[str]:
        shared = self.qemu / "usr/share"
        found = [
            *(str(self.qemu / "usr/bin/qemu-system-x86_64"), "-L", f"{shared}/qemu"),
            *("-L", f"{shared}/seabios", "-machine", "q35", "-accel", "tcg,thread=multi"),
            *("-cpu", EMULATED_CPU, "-smp", CPUS, "-m", "4G", "-nodefaults"),
            *("-no-user-config", "-display", "none", "-no-reboot", "-append", self.line),
            *("-kernel", str(self.image.kernel), "-initrd", str(initrd)),
            *("-drive", f"if=none,id=disk,format=qcow2,cache=unsafe,file={disk}"),
            *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
            *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-:22"),
            *("-qmp", f"unix:{self.folder}/qmp.socket,server=on,wait=off"),
            *("-device", "virtio-net-pci,netdev=net,romfile=", "-rtc", "base=utc,clock=host"),
            *self.more,
        ]
        for port in PORTS:
            path = self.folder / f"{port}.socket"
            found += ["-chardev", f"socket,id={port},path={path}", "-serial", f"chardev:{port}"]
        return found

    def _listener(self, port: str) -> socket.socket:
        found, path = socket.socket(socket.AF_UNIX), self.folder / f"{port}.socket"
        path.unlink(missing_ok=True)
        found.bind(str(path))
        found.listen()
        return found

    def _read(self, port: str, connection: socket.socket) -> None:
        log = (self.folder / f"{port}.log").open("a", buffering=1)
        with suppress(OSError), log, connection, connection.makefile(errors="replace") as file:
            for text in file:
                log.write(text)
                self.lines[port].append(
                    Line(time.monotonic(), self._cpu_s(), text.strip(), time.time())
                )

    def _cpu_s(self) -> float:
        with suppress(OSError):
            told = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(told[11]) + int(told[12])) * _TICK_S
        return 0.0
