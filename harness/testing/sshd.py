"""A real OpenSSH server that belongs to one test: on the loopback, with keys of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.core.timebase import Deadline, NotYet, wait_for
from harness.guest.ssh_settings import SshSettings
from harness.testing.required import required

_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
#: Of every sshd that a test starts; ``folder`` holds its keys.
SETTINGS = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
"""
_CONFIG = f"""
ListenAddress 127.0.0.1:{{port}}
{SETTINGS}
LogLevel VERBOSE
MaxStartups 1000
"""

_BANNER = b"SSH-2.0-OpenSSH_9.2\r\n"
_NAMES = b"\x14" + bytes(16) + b"\0\0\0\x04\xff\xff\xff\xff" + bytes(101)
#: What a peer may say that is no sshd, or no sane one.
NONSENSE = {
    "nothing": b"",
    "http": b"HTTP/1.0 400 Bad Request\r\n\r\n",
    "binary": b"\xff\xfe\0\r\n" * 200,
    "banner": _BANNER,
    "noise": _BANNER + b"\xff" * 4096,
    "bad names": _BANNER + (len(_NAMES) + 6).to_bytes(4, "big") + b"\x05" + _NAMES + bytes(5),
    "bad message": _BANNER + b"\0\0\0\x0c\x0a\xc8" + bytes(10),
}


def missing() -> str | None:
    """Why no sshd can be started here, if so."""
    if _SSHD is None:
        return "there is no sshd"
    if os.geteuid() == 0 and os.environ.get("HARNESS_NAMESPACE") != "inside":
        return "root needs /run/sshd, and this is not inside scripts/in-namespace"
    return None


def make_key(file: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A new private key, with its ``.pub`` beside it."""
    make = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", str(file)]
    subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
    return file


def public(key: Path) -> str:
    """The public half, as known_hosts and authorized_keys want it."""
    return Path(f"{key}.pub").read_text().strip()


@dataclass(frozen=True)
class Sshd:
    """A running sshd, and how to log in to it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    client_key: Path

    @property
    def log(self) -> str:
        """Everything that it has logged so far."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` of its host key."""
        show = ["ssh-keygen", "-l", "-f", str(self.folder / "host_key.pub")]
        return subprocess.run(show, check=True, capture_output=True, text=True).stdout.split()[1]

    def known(self, name: str = "127.0.0.1", key: Path | None = None) -> str:
        """A line for known_hosts: its host key (or ``key``) under ``name``."""
        return f"[{name}]:{self.port} {public(key or self.folder / 'host_key')}\n"

    def settings(self, **changes: Any) -> SshSettings:
        """What lets a login succeed, but for ``changes``."""
        known_hosts = self.folder / "known_hosts"
        known_hosts.write_text(self.known())
        right: dict[str, Any] = {
            "user": getpass.getuser(),
            "port": self.port,
            "identity_files": (self.client_key,),
            "known_hosts": (known_hosts,),
            "known_names": (f"[web1]:{self.port}", f"[127.0.0.1]:{self.port}"),
        }
        return SshSettings(**{**right, **changes})

    def connections(self) -> list[int]:
        """The processes that serve connections, and what they have started."""
        found: list[int] = []
        parents = [self.process.pid]
        while parents:
            with suppress(FileNotFoundError, ProcessLookupError):
                pid = parents.pop()
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                parents += map(int, children)
                found += map(int, children)
        return found

    def signal(self, number: signal.Signals) -> None:
        """To all of it: the connections first."""
        for pid in [*self.connections(), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @contextmanager
    def thawed_afterwards(self) -> Iterator[None]:
        """Whatever ``freeze`` has frozen in the block goes on after it."""
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def freeze(self) -> None:
        """As a paused guest: it still has its connections, and says nothing any more."""
        self.signal(signal.SIGSTOP)


@contextmanager
def private_sshd(
    folder: Path,
    client_key: Path | None = None,
    *more: str,
    prepare: Callable[[Path], object] = lambda folder: None,
) -> Iterator[Sshd]:
    """An sshd that lets ``client_key`` (by default a new one) in; skips where there can be none.

    ``more``: lines for its configuration, with its ``{folder}`` and its ``{port}``; ``prepare`` is
    called with its folder when its keys are there, before it starts.
    """
    why = missing()
    if why and required("guest"):
        pytest.fail(f"an sshd is required, but: {why}")
    if why:
        pytest.skip(f"no sshd: {why}")
    folder.mkdir(parents=True, exist_ok=True)
    _make_room(folder)
    make_key(folder / "host_key")
    client_key = client_key or make_key(folder / "client_key")
    (folder / "authorized_keys").write_text(public(client_key))
    prepare(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = _CONFIG.format(port=port, folder=folder)
    for line in more:  # of MaxStartups, sshd takes the last line
        config += line.replace("{folder}", str(folder)).replace("{port}", str(port)) + "\n"
    (folder / "sshd_config").write_text(config)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(_SSHD), "-D", "-e", "-f", folder / "sshd_config"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    sshd = Sshd(folder, port, process, client_key)

    def accepts() -> None:
        if process.poll() is not None:
            raise AssertionError(f"sshd ended: {sshd.log}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError as error:
            raise NotYet(str(error)) from error

    try:
        wait_for(accepts, what="sshd", deadline=Deadline.after(10), interval_s=0.01)
        yield sshd
    finally:
        sshd.signal(signal.SIGCONT)
        sshd.signal(signal.SIGTERM)
        process.wait(10)


@contextmanager
def peer(says: bytes, *, stays: bool) -> Iterator[int]:
    """A server that answers one after the other, but not as an sshd does: its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    answer(server.accept()[0])

        def answer(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                connection.sendall(says)
                if not stays:
                    connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # else a reset would overtake the answer
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        port: int = server.getsockname()[1]
        yield port
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _make_room(folder: Path) -> None:
    """What sshd wants as root, in the namespace's own mounts: the machine does not see it."""
    if os.geteuid() != 0:
        return
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    shadow = Path("/etc/shadow").read_text()
    if "\nroot:!" in f"\n{shadow}":  # a locked account is not let in without PAM
        own = folder / "shadow"
        own.touch(mode=0o600)
        own.write_text(f"\n{shadow}".replace("\nroot:!", "\nroot:*").lstrip("\n"))
        subprocess.run(["mount", "--bind", own, "/etc/shadow"], check=True)
