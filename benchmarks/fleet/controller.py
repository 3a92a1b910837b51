"""The playbook on many hosts whose `harness` is a stand-in: processor time and memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.testing.sshd import SETTINGS, make_key, public
from tests.fleet import stub_harness
from tests.fleet.playbooks import CORES, VARIABLES, Controller, install

FORKS = 20
_PORT = 2222
_EVERY_S = 1.0


@dataclass(frozen=True)
class Used:
    """What one playbook took."""

    cpu_s: float
    """Of ansible-playbook, its forks and its ssh; of the modules too where there is no SSH."""
    peak_mib: float
    """Memory of all these processes together; what they share is counted once."""
    took_s: float


def measure(count: int, folder: Path, *, ssh: bool, again: bool = True) -> list[Used]:
    """Return what a rollout takes, and, unless it is not wanted, the same again."""
    names = [f"host{number}" for number in range(count)]
    for name in names:
        here = folder / "hosts" / name
        here.mkdir(parents=True)
        shutil.copy(stub_harness.__file__, here / "harness")
        (here / "sets").write_text(name)
    variables: dict[str, Any] = {
        **VARIABLES,
        "rolling_maintenance_executable": f"{folder}/hosts/{{{{ inventory_hostname }}}}/harness",
        "rolling_maintenance_waves_folder": str(folder / "waves"),
    }
    hosts: dict[str, dict[str, str]] = {name: {} for name in names}
    with ExitStack() as stack:
        if ssh:
            variables.update(stack.enter_context(_sshd(folder)))
            for number, name in enumerate(names):
                hosts[name]["ansible_host"] = f"127.1.{number // 200}.{number % 200 + 1}"
        else:
            variables["ansible_connection"] = "local"
        inventory = {"hosts": hosts, "vars": variables}
        engine = install(CORES / "newest", folder)
        controller = Controller(engine, folder, inventory, more={"ANSIBLE_FORKS": str(FORKS)})
        return [_play(controller) for _ in range(1 + again)]


def _play(controller: Controller) -> Used:
    began = time.monotonic()
    process = controller.start("bench")
    over, peak = threading.Event(), [0]
    looking = threading.Thread(target=_look, args=(process.pid, over, peak))
    looking.start()
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    over.set()
    looking.join()
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(said)
    took_s = time.monotonic() - began
    return Used(used.ru_utime + used.ru_stime, peak[0] / 1024, took_s)


def _look(pid: int, over: threading.Event, peak: list[int]) -> None:
    while not over.wait(_EVERY_S):
        below, kib = [pid], 0
        while below:
            one = below.pop()
            with suppress(OSError):
                below += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
                lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
                kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        peak[0] = max(peak[0], kib)


@contextmanager
def _sshd(folder: Path) -> Iterator[dict[str, str]]:
    """One sshd on every address of the loopback, inside scripts/in-namespace."""
    if os.environ.get("HARNESS_NAMESPACE") != "inside":
        raise RuntimeError("not inside scripts/in-namespace (hint: make bench-fleet)")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    key = make_key(folder / "client_key")
    make_key(folder / "host_key")
    (folder / "authorized_keys").write_text(public(key) + "\n")
    (folder / "known_hosts").write_text(f"* {public(folder / 'host_key')}\n")
    own = f"ListenAddress 0.0.0.0:{_PORT}\nMaxStartups 1000\n{SETTINGS.format(folder=folder)}"
    (folder / "sshd_config").write_text(own)
    with (folder / "sshd.log").open("wb") as log:
        words = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    common = [
        *("-F", "none", "-o", f"UserKnownHostsFile={folder / 'known_hosts'}"),
        *("-o", "StrictHostKeyChecking=yes", "-o", f"IdentityFile={key}"),
        *("-o", "IdentitiesOnly=yes", "-o", f"Port={_PORT}"),
    ]
    try:
        yield {"ansible_user": "root", "ansible_ssh_common_args": " ".join(common)}
    finally:
        process.terminate()
        process.wait(30)
