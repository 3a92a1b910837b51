"""Tasks on this machine, one after another, as a playbook of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fleet.playbooks import HARNESS, VARIABLES, Controller, Engine, Played


@dataclass
class Told:
    """What each task returned, and what was printed."""

    results: Sequence[Mapping[str, Any]]
    played: Played


@dataclass
class Here:
    """This machine as the one host of an inventory; ``folder`` has a state folder of harness."""

    engine: Engine
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of every task, beside a state folder of its own."""

    def play(self, *tasks: Mapping[str, Any]) -> Told:
        """Run tasks of the collection, whether or not one fails: ``{"MODULE": {OPTIONS}}``.

        What a task has beside its module, such as ``check_mode``, is Ansible's.
        """
        told = self.folder / "told.json"
        names = [f"said_{number}" for number in range(len(tasks))]
        copied = {"dest": str(told), "content": f"{{{{ [{', '.join(names)}] | to_json }}}}"}
        tell = {"name": "Tell", "ansible.builtin.copy": {**copied, "mode": "0600"}}
        play = {
            "hosts": "all",
            "gather_facts": False,
            "environment": {
                "HARNESS_STATE_DIR": str(self.folder / "state"),
                "HARNESS_NO_REPORT": "1",
                **self.environment,
            },
            "tasks": [*map(self._task, names, tasks), tell],
        }
        file = self.folder / "tasks.yml"
        self.folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([play]))
        here = {"hosts": {"here": {}}, "vars": {**VARIABLES, "ansible_connection": "local"}}
        played = Controller(self.engine, self.folder, here).play("none", playbook=str(file))
        assert played.code == 0, played.out
        return Told(json.loads(told.read_text()), played)

    def _task(self, name: str, task: Mapping[str, Any]) -> dict[str, Any]:
        module, *others = task
        given = {"executable": HARNESS, **task[module]}
        return {
            "name": name,
            f"harness_kvm.fleet.{module}": given,
            "register": name,
            "ignore_errors": True,
            **{key: task[key] for key in others},
        }
