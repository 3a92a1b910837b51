"""Kill maintenances at random instants, again and again, and count the guests left paused.

    make soak N=200

Each round starts ``harness run`` on two guests of a lab, kills it at a random instant of its life
(one time in five its guardian too), waits until both guests run, and lets ``harness recover``
finish what was left. Kills of both leave guests paused until then; all others must not. In half of
the kills a random one of the faults of :mod:`benchmarks.faults` is laid right before. Where a fault
has taken the journal and both are killed, no program can resume the guests; they are *reported* if
``harness recover`` does not end well and names them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.faults import FAULTS, Place
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline, NotYet, Stopwatch, wait_for
from harness.host.driver import LibvirtHypervisor
from harness.host.lifecycle import GuestState
from harness.host.protocol import EventKind
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec

GUESTS = ("soak-1", "soak-2")
BUDGET_S = 8.0
RUN = ("run", "--duration", "0.7", "--budget", f"{BUDGET_S:g}", "--scope", "host")
BOTH_ONE_IN = 5
FAULT_ONE_IN = 2


@dataclass
class Tally:
    """What a soak has seen."""

    kills: int = 0
    kills_while_paused: int = 0
    kills_of_both: int = 0
    ended_before: int = 0
    stranded: int = 0
    """Guests still paused when they had to run: 2 s after the budget, or after recover."""
    orphaned: int = 0
    """Guests still paused after recover, where both were killed and a fault had been laid."""
    reported: int = 0
    """Those of the orphaned that recover named."""
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: int = 0
    failed_recoveries: int = 0
    worst_pause_s: float = 0.0
    """Of the kills of the run alone; by libvirt's events."""
    worst_rescue_s: float = 0.0
    """From the kill of a run alone to the moment when both guests run."""

    def rows(self) -> list[tuple[str, str]]:
        """For the table."""
        return [
            ("kills", str(self.kills)),
            ("… while guests were paused", str(self.kills_while_paused)),
            ("… of the run and its guardian", str(self.kills_of_both)),
            ("runs that had ended before", str(self.ended_before)),
            ("… after a fault was laid", str(self.faults.total())),
            *((f"    {fault}", str(times)) for fault, times in sorted(self.faults.items())),
            ("guests stranded", str(self.stranded)),
            ("guests orphaned by both deaths and a fault", str(self.orphaned)),
            ("… and not reported by recover", str(self.orphaned - self.reported)),
            ("recoveries", str(self.recoveries)),
            ("recoveries that failed", str(self.failed_recoveries)),
            ("worst pause, killed run", f"{self.worst_pause_s:.3f} s"),
            ("worst kill → both running", f"{self.worst_rescue_s:.3f} s"),
        ]


class Soak:
    """Rounds on one lab; ``seed`` makes the instants repeatable."""

    def __init__(
        self,
        hypervisor: LibvirtHypervisor,
        uuids: dict[str, str],
        config: Path,
        folder: Path,
        seed: int,
    ) -> None:
        self.tally = Tally()
        self._hypervisor = hypervisor
        self._uuids = uuids
        self._run = (*RUN, *uuids, "-c", str(config))
        self._folder = folder
        self._state_dir = folder / "undisturbed"
        self._random = random.Random(seed)
        self._life_s = 3.0

    def measure_life(self) -> None:
        """How long an undisturbed run takes: the instants are spread over that."""
        watch = Stopwatch()
        done = _harness(self._state_dir, *self._run)
        if done.returncode != 0:
            raise SystemExit(f"an undisturbed run ended with {done.returncode}: {done.stderr}")
        self._life_s = watch.elapsed_s()

    def round(self) -> None:
        """One run, killed at a random instant; its state folder is its own."""
        began_ns = SYSTEM_CLOCK.monotonic_ns()
        both = self._random.randrange(BOTH_ONE_IN) == 0
        fault = self._random.choice(list(FAULTS)) if self._random.randrange(FAULT_ONE_IN) else None
        laid_before = self.tally.faults.total()
        self._state_dir = self._folder / f"state-{self.tally.kills}-{self.tally.ended_before}"
        with ExitStack() as laid:
            with subprocess.Popen(
                [sys.executable, "-P", "-m", "harness", *self._run],
                env=_environment(self._state_dir),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            ) as run:
                SYSTEM_CLOCK.sleep(self._random.uniform(0.2, self._life_s))
                if run.poll() is not None:
                    self.tally.ended_before += 1
                    self._life_s *= 0.95
                    return
                guardian = _guardian_of(run.pid)
                if fault and guardian is not None:
                    self._lay(fault, guardian, laid)
                if both and guardian is not None:
                    _kill(guardian)
                run.send_signal(signal.SIGKILL)
                watch = Stopwatch()
            self.tally.kills += 1
            self.tally.kills_of_both += both
            self.tally.kills_while_paused += bool(self._paused())
            if not both:
                self._expect_running(BUDGET_S + 2)
                self.tally.worst_rescue_s = max(self.tally.worst_rescue_s, watch.elapsed_s())
                self.tally.worst_pause_s = max(self.tally.worst_pause_s, self._pause_s(began_ns))
        faulty = self.tally.faults.total() > laid_before
        said = self._recover(faulty)
        self._expect_running(2, said if both and faulty else None)

    def _lay(self, fault: str, guardian: int, laid: ExitStack) -> None:
        """Lay ``fault`` if the run has got that far."""
        folders = sorted((self._state_dir / "runs").glob("*/"))
        if not folders:
            return
        with suppress(OSError):  # it has ended, or is just about to
            laid.enter_context(FAULTS[fault](Place(self._state_dir, folders[-1], guardian)))
            self.tally.faults[fault] += 1

    def _paused(self) -> list[str]:
        deadline = Deadline.after(10)
        states = {n: self._hypervisor.state(u, deadline).state for n, u in self._uuids.items()}
        return [name for name, state in states.items() if state is GuestState.PAUSED]

    def _expect_running(self, within_s: float, said: str | None = None) -> None:
        """Count who is still paused; ``said`` by recover, where nobody could resume them."""

        def look() -> None:
            if names := self._paused():
                raise NotYet(f"paused: {names}")

        try:
            wait_for(look, what="running", deadline=Deadline.after(within_s), interval_s=0.005)
        except Exception:  # noqa: BLE001  counted; the soak goes on with guests that run
            for name in self._paused():
                if said is None:
                    self.tally.stranded += 1
                else:
                    self.tally.orphaned += 1
                    self.tally.reported += name in said
                self._hypervisor.resume(self._uuids[name], Deadline.after(10))

    def _recover(self, faulty: bool) -> str:
        """Finish what was left; return what was said if it was not all right.

        Where a fault was laid, a run that cannot be finished is named: exit 3 or 4.
        """
        done = _harness(self._state_dir, "recover", "--json")
        runs = json.loads(done.stdout or '{"runs": []}')["runs"]
        self.tally.recoveries += sum(bool(run["guests"]) for run in runs)
        self.tally.failed_recoveries += done.returncode not in ((0, 3, 4) if faulty else (0,))
        return done.stderr if done.returncode else ""

    def _pause_s(self, since_ns: int) -> float:
        worst_ns = 0
        for uuid in self._uuids.values():
            events = [e for e in self._hypervisor.events(uuid) if e.at_ns >= since_ns]
            began = [e.at_ns for e in events if e.kind is EventKind.SUSPENDED]
            ended = [e.at_ns for e in events if e.kind is EventKind.RESUMED]
            if began and ended:
                worst_ns = max(worst_ns, ended[-1] - began[0])
        return worst_ns / NS_PER_S


def _environment(state_dir: Path) -> dict[str, str]:
    """Pages are made when guests are well again, and take longer than all that is killed here."""
    return {**os.environ, "HARNESS_NO_REPORT": "1", "HARNESS_STATE_DIR": str(state_dir)}


def _harness(state_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "harness", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=_environment(state_dir)
    )


def _guardian_of(parent: int) -> int | None:
    with suppress(OSError):
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in children:
            if b"harness.maintenance.pause.guardian" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return None


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def soak(kills: int, seed: int, say: Callable[[str], None] = print) -> Tally:
    """Boot a lab in a state folder of its own, kill so many runs, take it down."""
    with tempfile.TemporaryDirectory(prefix="harness-soak-") as folder:
        before = os.environ.get("HARNESS_STATE_DIR")
        os.environ["HARNESS_STATE_DIR"] = f"{folder}/lab"
        try:
            specs = [GuestSpec(name, "tiny", update_domain="0") for name in GUESTS]
            lab = labs.up(specs, deadline=Deadline.after(180), progress=say)
            try:
                hypervisor = LibvirtHypervisor.open(lab.uri, Deadline.after(10))
                uuids = {guest.name: guest.uuid for guest in lab.guests}
                found = Soak(hypervisor, uuids, lab.config_file, Path(folder), seed)
                found.measure_life()
                while found.tally.kills < kills:
                    found.round()
                    if found.tally.kills % 20 == 0:
                        say(f"{found.tally}")
                hypervisor.close()
            finally:
                labs.down(say)
        finally:
            if before is None:
                del os.environ["HARNESS_STATE_DIR"]
            else:
                os.environ["HARNESS_STATE_DIR"] = before
    return found.tally


def main() -> None:
    """``python -P -m benchmarks.soak KILLS [SEED]``; exit 1 for guests stranded, or unreported."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    tally = soak(kills, seed)
    table = Table(title=f"{kills} maintenances killed at random instants (seed {seed})")
    table.add_column("")
    table.add_column("", justify="right")
    for row in tally.rows():
        table.add_row(*row)
    Console().print(table)
    broken = tally.stranded or tally.orphaned > tally.reported or tally.failed_recoveries
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
