"""Three hosts on this machine, each in namespaces of its own, and the network between them.

This process is the controller, inside `scripts/in-namespace`. A host is a UTS namespace and another
`in-namespace` below, with an sshd whose host key is checked and a lab of two tiny guests; a pair of
virtual interfaces leads from it to the controller's bridge. Everything ends with its first process.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.core.errors import JournalError
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.results.journal import Line, read
from harness.testing.sshd import SETTINGS, make_key, public
from tests.fleet.playbooks import HARNESS, ROOT

BRIDGE, NETWORK = "fleet", "192.0.2"  # for documentation: no machine has it
NAMES = ("h1", "h2", "h3")
BOOT_S = 400
#: For one command on a host of a machine that is very busy.
RUN_S = 240
_SSHD = f"""
{SETTINGS}
SetEnv HARNESS_STATE_DIR={{folder}}/state HARNESS_NO_REPORT=1
"""
#: Guests of one set are on all hosts, so each wave is one host; clocks are judged as those of
#: emulated guests on a busy machine.
_MORE = """
[clock]
tolerance_s = 1.0

[fleet]
database = "{database}"

[events]
store = "{database}"

[[availability_set]]
name = "lab"
spans_hosts = true
"""


@dataclass(frozen=True)
class Host:
    """A host, as the controller reaches it."""

    name: str
    address: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def runs(self) -> list[Path]:
        """The folders of its runs, oldest first."""
        return sorted((self.folder / "state" / "runs").glob("*"))

    def lines(self, run: int = -1) -> Sequence[Line]:
        """Return the journal of a run; nothing where there is none yet."""
        with suppress(IndexError, JournalError, OSError):
            return read(self.runs[run] / "journal.jsonl").lines
        return []

    def until(self, event: str, *, after: int, of: subprocess.Popen[str]) -> None:
        """Wait until its run after so many others, of that playbook, has written such a line."""

        def look() -> None:
            if of.poll() is not None and of.stdout is not None:
                raise AssertionError(of.stdout.read())
            there = [line.event for line in self.lines(after)] if len(self.runs) > after else []
            if event not in there:
                raise NotYet(f"{self.name}: {there}")

        wait_for(look, what=event, deadline=Deadline.after(RUN_S), interval_s=0.1)

    @property
    def ssh(self) -> tuple[str, ...]:
        """The words of a command that logs in to it; its host key is checked."""
        return ("ssh", *ssh_options(self.folder.parent), f"root@{self.address}")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `harness` on it, over SSH."""
        command = [*self.ssh, shlex.join([HARNESS, *words])]
        return subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start it there; on a terminal, so that it ends with the connection."""
        return subprocess.Popen(
            [*self.ssh, "-tt", shlex.join([HARNESS, *words])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def configured(self, text: str, *changes: tuple[str, str]) -> Path:
        """Return another harness.toml of it, with ``changes`` and ``text`` at its end."""
        found = self.folder / "state" / "lab" / "harness.toml"
        said = found.read_text()
        for before, after in changes:
            assert before in said
            said = said.replace(before, after)
        other = found.with_name("other.toml")
        other.write_text(said + text)
        return other

    def cut(self) -> None:
        """Pull the plug of its network; nothing is told to either side."""
        _ip("link", "set", f"fleet-{self.name}", "down")

    def plug(self) -> None:
        """Put it back."""
        _ip("link", "set", f"fleet-{self.name}", "up")

    def inside(self) -> int:
        """Return the pid, as seen here, of the process that is its sshd."""
        pid = self.process.pid
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[0])
            if Path(f"/proc/{pid}/comm").read_text().strip() == "sshd":
                return pid
        raise NotYet(f"{self.name}: no sshd yet")

    def die(self, *, guardian: bool = True) -> None:
        """Kill its run and its connections; with the guardian of that, guests stay as they are."""
        ours = [pid for pid in _below(self.process.pid) if _is_of_a_run(pid, guardian)]
        assert len(ours) > guardian, [_words(pid) for pid in _below(self.process.pid)]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # neither sees the other die
            for pid in ours:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.end_connections()

    def end_connections(self) -> None:
        """Kill what serves its SSH connections, and the programs that they run; not the sshd."""
        pid = self.inside()
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip().startswith("sshd"):
                with suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)


def ssh_options(keys: Path) -> list[str]:
    """Return how a controller logs in, by the keys in that folder."""
    return [
        *("-o", f"UserKnownHostsFile={keys / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes"),
        *("-o", f"IdentityFile={keys / 'client_key'}", "-o", "IdentitiesOnly=yes", "-F", "none"),
        *("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=5"),
    ]


@contextmanager
def three_hosts(folder: Path, database: str) -> Iterator[dict[str, Host]]:
    """Boot them, side by side; ends them, with everything in them."""
    client_key = make_key(folder / "client_key")
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    with ExitStack() as stack:
        stack.callback(_ip, "link", "delete", BRIDGE)
        hosts = {}
        for number, name in enumerate(NAMES, 11):
            own = folder / name
            own.mkdir()
            (own / "more.toml").write_text(_MORE.format(database=database))
            hosts[name] = _start(own, name, f"{NETWORK}.{number}", client_key, stack)
        known = "".join(
            f"{host.address} {public(host.folder / 'host_key')}\n" for host in hosts.values()
        )
        (folder / "known_hosts").write_text(known)
        deadline = Deadline.after(BOOT_S)
        for host in hosts.values():
            wait_for(partial(_answers, host), what=host.name, deadline=deadline, interval_s=0.5)
        yield hosts


def _start(own: Path, name: str, address: str, client_key: Path, stack: ExitStack) -> Host:
    make_key(own / "host_key")
    (own / "authorized_keys").write_text(public(client_key) + "\n")
    (own / "sshd_config").write_text(_SSHD.format(folder=own))
    words = [str(Path(__file__).with_name("host.sh")), name, address, str(own), HARNESS]
    with (own / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--uts", str(ROOT / "scripts" / "in-namespace"), *words],
            env={**os.environ, "HARNESS_STATE_DIR": str(own / "state")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    stack.callback(_end, process)
    host = Host(name, address, own, process)
    space = wait_for(
        lambda: _namespace(process.pid), what=f"{name}'s network", deadline=Deadline.after(30)
    )
    _ip("link", "add", f"fleet-{name}", "type", "veth", "peer", "eth0", "netns", str(space))
    _ip("link", "set", f"fleet-{name}", "master", BRIDGE, "up")
    return host


def _namespace(pid: int) -> int:
    """Return the pid of a process below ``pid`` that is in another network. Raises NotYet."""
    here = os.readlink("/proc/self/ns/net")
    below = [pid]
    while below:
        one = below.pop()
        with suppress(OSError):
            if os.readlink(f"/proc/{one}/ns/net") != here and "host.sh" in _words(one):
                return one
            below += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    raise NotYet("no process in it yet")


def _below(pid: int) -> list[int]:
    """Return the processes that it has started, and theirs."""
    found = []
    with suppress(OSError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            found += [child, *_below(child)]
    return found


def _is_of_a_run(pid: int, guardian: bool) -> bool:
    names = ("harness.cli.rollout", *(("pause.guardian",) if guardian else ()))
    with suppress(OSError):
        return any(name in _words(pid) for name in names)
    return False


def _words(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def _answers(host: Host) -> None:
    if host.process.poll() is not None:
        logs = (host.folder / name for name in ("log", "lab.log", "clock.log", "sshd.log"))
        said = "".join(log.read_text() for log in logs if log.exists())
        raise AssertionError(f"{host.name} ended: {said}")
    try:
        host.inside()
    except OSError as error:
        raise NotYet(str(error)) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
