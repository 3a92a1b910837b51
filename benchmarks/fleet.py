"""What a rollout costs the controller: the playbook on so many hosts, stand-ins, in one wave.

    python -P -m benchmarks.fleet 10 50

CPU seconds are those of ansible-playbook with its forks and of the modules, which here run on the
controller too: an upper limit. Memory is the largest of its processes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fleet import stub_harness
from tests.fleet.playbooks import CORES, VARIABLES, Controller, finish, install

FORKS = 20


def measure(hosts: int, folder: Path) -> tuple[float, float, float]:
    """Return CPU seconds, megabytes of the largest process, and CPU seconds of the same again."""
    names = [f"host{number}" for number in range(hosts)]
    for name in names:
        here = folder / "hosts" / name
        here.mkdir(parents=True)
        shutil.copy(stub_harness.__file__, here / "harness")
        (here / "sets").write_text(name)
    variables = {
        **VARIABLES,
        "ansible_connection": "local",
        "rolling_maintenance_executable": f"{folder}/hosts/{{{{ inventory_hostname }}}}/harness",
        "rolling_maintenance_waves_folder": str(folder / "waves"),
    }
    inventory = {"hosts": {name: {} for name in names}, "vars": variables}
    engine = install(CORES / "newest", folder)
    controller = Controller(engine, folder, inventory, more={"ANSIBLE_FORKS": str(FORKS)})
    first, size = _play(controller)
    again, _ = _play(controller)
    return first, size, again


def _play(controller: Controller) -> tuple[float, float]:
    process = controller.start("bench")
    out = process.stdout
    assert out is not None
    said = out.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    finish(process)
    if process.returncode:
        raise RuntimeError(said)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main(counts: Sequence[str]) -> None:
    """Print the table."""
    print("| hosts | CPU, controller and modules | a host | the same again | largest process |")
    print("|---|---|---|---|---|")
    for count in map(int, counts):
        with tempfile.TemporaryDirectory() as folder:
            cpu_s, megabytes, again_s = measure(count, Path(folder))
        cells = (str(count), f"{cpu_s:.0f} s", f"{cpu_s / count:.2f} s", f"{again_s:.0f} s")
        print(f"| {' | '.join(cells)} | {megabytes:.0f} MiB |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["10", "50"])
