"""What the guardian costs, and how soon it is there when the run is killed.

    make bench

Boots eight tiny guests in one update domain, pauses them all, kills the run with SIGKILL, and
measures by the journal and by libvirt's events; several times.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.memory import most_memory_mib
from harness.core.timebase import SYSTEM_CLOCK, Deadline, NotYet, wait_for
from harness.host.driver import LibvirtHypervisor
from harness.host.protocol import EventKind
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec
from harness.results.journal import read

REPEATS = 7
_TRIES = 5
NAMES = [f"g-{number}" for number in range(1, 9)]
LIMITS = {"arming": 150.0, "kill → 8 running": 150.0, "guardian's memory": 60.0}
UNITS = {"arming": "ms", "kill → 8 running": "ms", "guardian's memory": "MiB"}


class RunFailed(Exception):
    """A run ended before all its guests were paused."""


def measure(hypervisor: LibvirtHypervisor, uuids: list[str], state_dir: Path) -> dict[str, float]:
    """One run on all guests, killed while they are paused."""
    runs = state_dir / "runs"
    before = set(runs.glob("*/"))
    run = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "harness",
            "run",
            *NAMES,
            "--allow-backward",
            "--duration",
            "20",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def folder() -> Path:
        """The run's folder, once all guests are paused."""
        for made in set(runs.glob("*/")) - before:
            journal = made / "journal.jsonl"
            lines = read(journal).lines if journal.exists() else ()
            if sum(line.event == "paused" for line in lines) == len(NAMES):
                return made
        if run.poll() is not None:
            raise RunFailed(
                f"a run ended with {run.returncode}: {run.stderr and run.stderr.read()}"
            )
        raise NotYet("not all are paused")

    found = wait_for(folder, what="the pause", deadline=Deadline.after(120), interval_s=0.02)
    SYSTEM_CLOCK.sleep(0.5)
    memory_mib = _memory_mib(run.pid)
    killed_ns = SYSTEM_CLOCK.monotonic_ns()
    run.send_signal(signal.SIGKILL)
    run.wait()

    def resumed_ns() -> int:
        """When the last of them was seen to run again."""
        stamps = [
            [e.at_ns for e in hypervisor.events(uuid) if e.kind is EventKind.RESUMED][-1:]
            for uuid in uuids
        ]
        if not all(stamp and stamp[0] > killed_ns for stamp in stamps):
            raise NotYet("not all run")
        return max(stamp[0] for stamp in stamps)

    last_ns = wait_for(resumed_ns, what="the rescue", deadline=Deadline.after(30))
    lines = read(found / "journal.jsonl").lines
    stamps = {line.event: line.boottime_ns for line in reversed(lines)}  # the first ones
    subprocess.run(
        [sys.executable, "-P", "-m", "harness", "recover"], stdout=subprocess.DEVNULL, check=True
    )
    return {
        "arming": (stamps["armed"] - stamps["pausing"]) / 1e6,
        "kill → 8 running": (last_ns - killed_ns) / 1e6,
        "guardian's memory": memory_mib,
    }


def _measured(hypervisor: LibvirtHypervisor, uuids: list[str], state_dir: Path) -> dict[str, float]:
    """As ``measure``; a run that ends before its pause is told, and tried again."""
    for _ in range(_TRIES):
        try:
            return measure(hypervisor, uuids, state_dir)
        except RunFailed as error:
            print(error, file=sys.stderr)
    raise SystemExit("no run pauses its guests here")


def _memory_mib(parent: int) -> float:
    """Resident memory of the child that is a guardian."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"harness.maintenance.pause.guardian" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return most_memory_mib(pid)
    raise SystemExit("the run has no guardian")


def main() -> None:
    """Boot the lab, measure, take it down."""
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        os.environ["HARNESS_STATE_DIR"] = folder
        specs = [GuestSpec(name, "tiny", update_domain="0") for name in NAMES]
        lab = labs.up(specs, deadline=Deadline.after(240), progress=print)
        try:
            hypervisor = LibvirtHypervisor.open(lab.uri, Deadline.after(10))
            uuids = [guest.uuid for guest in lab.guests]
            found = [_measured(hypervisor, uuids, Path(folder)) for _ in range(REPEATS)]
            hypervisor.close()
        finally:
            labs.down(print)
    table = Table(title=f"the guardian, 8 guests, {REPEATS} times")
    for heading in ("", "median", "worst", "allowed"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, limit in LIMITS.items():
        values = [sample[name] for sample in found]
        cells = (statistics.median(values), max(values), limit)
        table.add_row(name, *(f"{value:.3g} {UNITS[name]}" for value in cells))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
