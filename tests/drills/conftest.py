"""Drills: everything that can break a maintenance is broken on purpose, on real guests.

``maintenance``  start ``harness run`` as a process of its own, wait for a line of its journal,
                 break something, and ask how it went
``resident``     one guest whose QEMU can be replaced
``dies``         a run that replaces its QEMU and is killed at a line of its journal
``doomed``       two tiny guests in a lab of their own, for drills that a guest does not survive

After every drill each guest of the session's lab runs and its clock is right.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from harness.core.errors import JournalError
from harness.core.records import RunRecord
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.lifecycle import GuestState
from harness.host.protocol import ProcessIdentity
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec
from harness.results.journal import Line, read
from tests.clocks import set_right
from tests.residents import residents

RUNNING, PAUSED = GuestState.RUNNING, GuestState.PAUSED
#: `harness` in which DIES ("run", "guardian", "both") when it has written the line DIE_AT.
DEADLY = """
import os, signal, subprocess, sys
from harness.results.journal import file
append = file.Journal._append
def deadly(self, entry):
    append(self, entry)
    if entry.event == os.environ["DIE_AT"]:
        if os.environ["DIES"] != "run":
            pattern = f"harness.maintenance.pause.guardian .*{self.path.parent}"
            subprocess.run(["pkill", "-KILL", "-f", pattern])
        if os.environ["DIES"] != "guardian":
            os.kill(os.getpid(), signal.SIGKILL)
file.Journal._append = deadly
from harness.cli.main import main
main()
"""


@pytest.fixture(autouse=True)
def _everybody_runs(lab, libvirt):
    """However a drill ends, the next one starts with guests that run."""
    yield
    for guest in lab.guests:
        if libvirt.state(guest.uuid, Deadline.after(10)).state is PAUSED:
            libvirt.resume(guest.uuid, Deadline.after(10))


class Maintenance:
    """A ``harness run`` in its own session, so that signals reach only what they are sent to."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        python: str | None = None,
        table: bool = False,
        **environment: str,
    ) -> None:
        """``python``: a program that is run instead of the package, with the same arguments.

        ``table``: its result is printed for people, and not as JSON.
        """
        self.state_dir = folder / "state"
        self._environment = {
            **os.environ,
            "HARNESS_STATE_DIR": str(self.state_dir),
            "HARNESS_NO_REPORT": "1",
            **environment,
        }
        how = ["-m", "harness"] if python is None else ["-c", python]
        self.process = subprocess.Popen(
            [sys.executable, *how, "run", *arguments, *([] if table else ["--json"])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=folder,
            env=self._environment,
            start_new_session=True,
        )

    @property
    def folder(self) -> Path:
        """The run folder, once there is one."""
        found = sorted((self.state_dir / "runs").glob("*/"))
        if not found:
            raise NotYet("no run folder yet")
        return found[-1]

    @property
    def entries(self) -> tuple[Line, ...]:
        """The journal as it is now."""
        try:
            return read(self.folder / "journal.jsonl").lines
        except JournalError as error:
            raise NotYet(str(error)) from error

    @property
    def record(self) -> RunRecord:
        return RunRecord.model_validate_json((self.folder / "run.json").read_text())

    def until(self, event: str, **fields) -> None:
        """Wait for a line of the journal."""

        def look() -> None:
            lines = self.entries
            if not any(e.event == event and fields.items() <= e.data.items() for e in lines):
                raise NotYet(f"no {event} {fields} in {[line.event for line in lines]}")

        wait_for(look, what=event, deadline=Deadline.after(60), interval_s=0.002)

    @property
    def guardian(self) -> int:
        """Its pid: the child that has our folder among its arguments."""
        listed = subprocess.run(
            ["pgrep", "-f", f"harness.maintenance.pause.guardian .*{self.folder}"],
            capture_output=True,
            text=True,
        )
        return int(listed.stdout.split()[0])

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    def ended(self, timeout_s: float = 90) -> int:
        """Its exit code."""
        self.out, self.err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode

    def command(self, *arguments: str) -> subprocess.CompletedProcess:
        """Another ``harness`` command with the same state folder."""
        return subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env=self._environment,
        )

    def start(self, *arguments: str) -> subprocess.Popen:
        """Another command, as ``command`` has it, that goes on while something is done to it."""
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
        )

    def recover(self) -> tuple[int, list[dict]]:
        """``harness recover``: its exit code and the guests of the run."""
        done = self.command("recover", "--json")
        runs = json.loads(done.stdout)["runs"]
        return done.returncode, [guest for run in runs for guest in run["guests"]]


@pytest.fixture(scope="module")
def resident(lab, libvirt, tmp_path_factory):
    """One guest whose QEMU can be replaced."""
    with residents(tmp_path_factory.mktemp("residents"), libvirt, count=1) as found:
        yield found


@pytest.fixture
def dies(resident, tmp_path):
    """``dies("parked", both=False)``: a run that dies there, when it has ended."""

    def run(line: str, *, both: bool) -> Maintenance:
        config = resident.configured(again=True)
        who = "both" if both else "run"
        started = Maintenance(tmp_path, "-c", config, python=DEADLY, DIE_AT=line, DIES=who)
        assert started.ended() == -signal.SIGKILL, started.err
        return started

    return run


@pytest.fixture
def maintenance(lab, tmp_path):
    """``maintenance("tiny-1", "--duration", "3")``; what still lives afterwards is ended.

    Its runs are put where no other drill's recovery finds them.
    """
    started: list[Maintenance] = []

    def start(*arguments: str, table: bool = False, **environment: str) -> Maintenance:
        config = ("-c", str(environment.pop("config", lab.config_file)))
        started.append(Maintenance(tmp_path, *arguments, *config, table=table, **environment))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            with suppress(ProcessLookupError):
                one.process.send_signal(signal.SIGCONT)
            one.process.kill()
            one.process.communicate(timeout=30)
        with suppress(OSError):  # the host's lock has noted it: no later recovery's
            (one.state_dir / "runs").rename(one.state_dir / "runs-of-a-drill")


def state_of(libvirt, uuid: str) -> GuestState:
    return libvirt.state(uuid, Deadline.after(10)).state


def becomes(libvirt, uuid: str, state: GuestState, within_s: float) -> None:
    """Wait until a guest is in ``state``; fails when it is not in time."""

    def look() -> None:
        found = state_of(libvirt, uuid)
        if found is not state:
            raise NotYet(f"is {found}")

    wait_for(look, what=str(state), deadline=Deadline.after(within_s), interval_s=0.01)


def run_for_a_while(libvirt, process: ProcessIdentity, cpu_ns: int = 50_000_000) -> None:
    """Wait until the vCPUs of a guest's QEMU have used ``cpu_ns``."""
    began_ns = libvirt.vcpu_time_ns(process)

    def look() -> None:
        if libvirt.vcpu_time_ns(process) - began_ns < cpu_ns:
            raise NotYet("it has hardly run")

    wait_for(look, what="running", deadline=Deadline.after(30))


@pytest.fixture
def doomed(lab, tmp_path, monkeypatch):
    """Guests ``doomed-1`` and ``doomed-2`` in one update domain, in a lab of their own."""
    with monkeypatch.context() as patch:
        patch.setenv("HARNESS_STATE_DIR", str(tmp_path / "doomed"))
        specs = [GuestSpec(f"doomed-{n}", "tiny", update_domain="0") for n in (1, 2)]
        state = labs.up(specs, deadline=Deadline.after(120), progress=print)
        config = state.config_file
        set_right([spec.name for spec in specs], config)
    yield state, config
    with monkeypatch.context() as patch:
        patch.setenv("HARNESS_STATE_DIR", str(tmp_path / "doomed"))
        labs.down(print)
