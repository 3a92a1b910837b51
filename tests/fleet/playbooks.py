"""The collection, built and installed as a user would, and playbooks that are run with it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: What `scripts/ansible-core` makes: the oldest ansible-core that is supported, and the newest.
CORES = ROOT / ".ansible-core"
#: For one playbook on a machine that is very busy.
LIMIT_S = 240


@dataclass(frozen=True)
class Engine:
    """One ansible-core, with the collection installed for it."""

    core: Path
    collections: Path

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Return the environment of its commands: nothing of the user's, nothing of ours."""
        kept = {name: os.environ[name] for name in ("LANG", "HOME") if name in os.environ}
        return {
            "LC_ALL": "C.UTF-8",
            **kept,
            "PATH": f"{self.core / 'bin'}:{os.environ['PATH']}",
            "ANSIBLE_HOME": str(home),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            **more,
        }


def install(core: Path, folder: Path) -> Engine:
    """Build the collection and install it from the built file, as `core` does."""
    galaxy = str(core / "bin" / "ansible-galaxy")
    engine = Engine(core, folder / "collections")
    environment = engine.environment(folder / "home")
    built = [galaxy, "collection", "build", str(ROOT / "ansible"), "--output-path", str(folder)]
    subprocess.run(built, env=environment, check=True, capture_output=True)
    (file,) = folder.glob("harness_kvm-fleet-*.tar.gz")
    offline = [galaxy, "collection", "install", "--offline", str(file)]
    where = ["-p", str(engine.collections)]
    subprocess.run([*offline, *where], env=environment, check=True, capture_output=True)
    return engine


@dataclass
class Played:
    """How a playbook ended."""

    code: int
    out: str

    def recap(self, host: str, what: str) -> int:
        """Return a figure of the recap, such as ``changed``."""
        line = re.search(rf"^{host}\s.*\b{what}=(\d+)", self.out, re.MULTILINE)
        return int(line[1]) if line else 0


@dataclass
class Controller:
    """Runs playbooks of one inventory."""

    engine: Engine
    folder: Path
    inventory: Mapping[str, Any]
    more: dict[str, str] = field(default_factory=dict)

    def start(
        self,
        rollout: str,
        *options: str,
        playbook: str = "harness_kvm.fleet.rolling",
        **variables: Any,
    ) -> subprocess.Popen[str]:
        """Start a playbook in a session of its own; stdout and stderr are in one pipe."""
        self.folder.mkdir(parents=True, exist_ok=True)
        inventory = self.folder / "inventory.json"
        inventory.write_text(json.dumps({"all": self.inventory}))
        given = {f"rolling_maintenance_{key}": value for key, value in variables.items()}
        given["rolling_maintenance_rollout"] = rollout
        words = ["-i", str(inventory), "-e", json.dumps(given), *options, playbook]
        return subprocess.Popen(
            [str(self.engine.core / "bin" / "ansible-playbook"), *words],
            env=self.engine.environment(self.folder / "home", **self.more),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def play(self, rollout: str, *options: str, **more: Any) -> Played:
        """Run a playbook to its end."""
        return finish(self.start(rollout, *options, **more))


def finish(process: subprocess.Popen[str]) -> Played:
    """Wait for a playbook; one that hangs is ended with all that it started."""
    try:
        out, _ = process.communicate(timeout=LIMIT_S)
    except BaseException:
        end(process)
        raise
    return Played(process.returncode, out)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a playbook and its workers, as a controller that dies; if it is over, only close it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


#: Of the environment that the tests run in.
HARNESS = str(Path(sys.executable).with_name("harness"))
#: What every inventory says.
VARIABLES = {
    "ansible_python_interpreter": sys.executable,
    "rolling_maintenance_controller_executable": HARNESS,
}
