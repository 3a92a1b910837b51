"""What one maintenance costs when the update itself costs nothing.

    make bench

Boots a lab of four tiny guests and a Debian one, maintains one and then four of them, several
times in turn, each time as a process of its own, and prints median and worst beside the limits.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.cost import measured
from harness.core.timebase import Deadline
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec

REPEATS = 7
TINY = [f"tiny-{number}" for number in range(1, 5)]
CASES = {"1 guest (python3)": ["debian"], "1 guest (sh)": TINY[:1], "4 guests (sh)": TINY}
#: Limits: wall time and memory for one guest (3 s, and 3 s for all checks: benchmarks.checks has
#: the two apart), the harness's own part of the pause for 1 and 4.
WALL_S, MEMORY_MIB, OVERHEAD_MS = 6.0, 120.0, {1: 50.0, 4: 150.0}


@dataclass(frozen=True)
class Sample:
    """One maintenance."""

    wall_s: float
    memory_mib: float
    overhead_ms: float
    stale_ms: float


def maintain(guests: list[str]) -> Sample:
    """One ``harness run``, measured from outside; raises unless every promise was kept."""
    # A freshly booted guest may be fast, and so short a pause does not make it slow.
    options = ("--update", "true", "--allow-backward", "--json")
    command = [sys.executable, "-P", "-m", "harness", "run", *guests, *options]
    # The page and the history come when all is over: benchmarks.reports measures them.
    said, cost = measured(command, environment={**os.environ, "HARNESS_NO_REPORT": "1"})
    record = json.loads(said)
    return Sample(
        wall_s=cost.total_s,
        memory_mib=cost.memory_mib,
        overhead_ms=1000 * record["update_domains"][0]["overhead_s"],
        stale_ms=1000 * max(guest["stale_clock_window_s"] for guest in record["guests"]),
    )


def print_table(samples: dict[str, list[Sample]]) -> None:
    """Median (worst) of every figure, and what is allowed."""
    table = Table(title=f"one maintenance without its update, {REPEATS} times: median (worst)")
    for heading in ("", "wall", "memory", "overhead", "stale clock"):
        table.add_column(heading, justify="right" if heading else "left")
    for case, found in samples.items():
        cells = []
        for name, unit in (
            ("wall_s", "s"), ("memory_mib", "MiB"), ("overhead_ms", "ms"), ("stale_ms", "ms")
        ):  # fmt: skip
            values = [getattr(sample, name) for sample in found]
            cells.append(f"{statistics.median(values):.3g} ({max(values):.3g}) {unit}")
        table.add_row(case, *cells)
    for count, limit in OVERHEAD_MS.items():
        costs = (f"{WALL_S:g} s", f"{MEMORY_MIB:g} MiB") if count == 1 else ("", "")
        table.add_row(f"allowed, {count}", *costs, f"{limit:g} ms", "")
    Console(width=100).print(table)


def main() -> None:
    """Boot the lab, measure in turn, take it down."""
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        os.environ["HARNESS_STATE_DIR"] = folder
        specs = [GuestSpec(name, "tiny") for name in TINY] + [GuestSpec("debian", "debian")]
        labs.up(specs, deadline=Deadline.after(240), progress=print)
        try:
            samples: dict[str, list[Sample]] = {case: [] for case in CASES}
            for _ in range(REPEATS):
                for case, guests in CASES.items():
                    samples[case].append(maintain(guests))
        finally:
            labs.down(print)
    print_table(samples)


if __name__ == "__main__":
    main()
