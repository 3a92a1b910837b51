"""Hosts that are folders, whose `harness` is a stand-in and is reached by a stand-in for `ssh`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.fleet import stub_harness
from tests.fleet.playbooks import VARIABLES, Controller, Engine, Played

STUB_SSH = Path(__file__).with_name("stub_ssh")


@dataclass
class Fleet:
    """Hosts that are folders."""

    controller: Controller
    folder: Path

    def host(self, name: str, sets: str, **files: str) -> None:
        """Add a host; ``sets`` are the availability sets of its guests."""
        here = self.folder / name
        here.mkdir(parents=True)
        shutil.copy(stub_harness.__file__, here / "harness")
        for file, text in {"sets": sets, **files}.items():
            (here / file).write_text(text)
        self.controller.inventory["hosts"][name] = {}

    def change(self, name: str, **files: str) -> None:
        for file, text in files.items():
            (self.folder / name / file).write_text(text)

    def play(self, rollout: str = "r1", *options: str, **more) -> Played:
        return self.controller.play(rollout, *options, **more)

    @property
    def order(self) -> list[str]:
        """When each run began and ended."""
        file = self.folder / "order"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def begun(self) -> list[str]:
        return [line.split()[1] for line in self.order if line.startswith("begin")]


def three_stand_ins(engine: Engine, tmp_path: Path) -> Fleet:
    """Return three hosts: h1 and h2 share a set, h3 has one of its own; h2 is the canary.

    `harness doctor` is not asked, which takes as long as all the rest, unless a test wants it.
    """
    hosts = tmp_path / "hosts"
    inventory = {
        "hosts": {},
        "vars": {
            **VARIABLES,
            "ansible_connection": "ssh",
            "ansible_ssh_executable": str(STUB_SSH),
            "rolling_maintenance_executable": f"{hosts}/{{{{ inventory_hostname }}}}/harness",
            "rolling_maintenance_waves_folder": str(tmp_path / "waves"),
            "rolling_maintenance_canaries": ["h2"],
            "rolling_maintenance_doctor": False,
        },
    }
    found = Fleet(Controller(engine, tmp_path, inventory, more={"STUB_HOSTS": str(hosts)}), hosts)
    found.host("h1", "web")
    found.host("h2", "web db")
    found.host("h3", "mail")
    return found
