"""What all checks on together cost: the same maintenance with and without those that watch.

    make bench-checks

Boots a Debian guest and a tiny one, and maintains each several times in turn, with every check
and with only those that need no probe. Prints the medians, their difference and what is allowed;
``--write`` puts them into docs/reference/checks.md.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import document
from harness.checks import CHECKS
from harness.core.timebase import Deadline, Stopwatch
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec

REPEATS = 5
GUESTS = {"python3": "debian", "sh": "tiny"}
#: How much all checks may add to the harness's own part of the pause, and to the whole.
OVERHEAD_MS, WALL_S = 5.0, 3.0


@dataclass(frozen=True)
class Sample:
    """One maintenance of one guest."""

    wall_s: float
    overhead_ms: float
    stale_ms: float


def maintain(guest: str, config: Path) -> Sample:
    """One ``harness run``, measured from outside; raises unless every promise was kept."""
    # A guest boots up to a second fast, and so short a pause does not make it slow.
    words = ["run", "-c", str(config), guest, "--duration", "1", "--allow-backward", "--json"]
    # The page comes when all is over: benchmarks.reports measures it.
    environment = {**os.environ, "HARNESS_NO_REPORT": "1"}
    watch = Stopwatch()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "harness", *words],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    wall_s = watch.elapsed_s()
    if done.returncode != 0:
        raise SystemExit(f"harness run ended with {done.returncode}: {done.stdout}{done.stderr}")
    record = json.loads(done.stdout)
    return Sample(
        wall_s=wall_s,
        overhead_ms=1000 * record["update_domains"][0]["overhead_s"],
        stale_ms=1000 * record["guests"][0]["stale_clock_window_s"],
    )


def summary(samples: dict[tuple[str, str], list[Sample]]) -> str:
    """Medians of both, and the difference of the medians beside its limit."""
    rows = []
    figures = (
        ("wall_s", "whole maintenance", "s", f"{WALL_S:g} s"),
        ("overhead_ms", "pause window − update", "ms", f"{OVERHEAD_MS:g} ms"),
        ("stale_ms", "stale clock", "ms", ""),
    )
    for guest in GUESTS:
        for field, title, unit, allowed in figures:
            off, on = (
                statistics.median(getattr(sample, field) for sample in samples[guest, case])
                for case in ("off", "on")
            )
            values = (f"{off:.3g} {unit}", f"{on:.3g} {unit}", f"{on - off:+.3g} {unit}")
            rows.append([guest, title, *values, allowed])
    said = (
        f"`make bench-checks` on {document.machine()}, TCG; medians of {REPEATS}, in turn; load "
        f"average {os.getloadavg()[0]:.1f}. *Off* are the checks that need no probe."
    )
    header = ["guest", "figure", "off", "all on", "added", "allowed"]
    return f"{said}\n\n{document.table(header, rows)}"


def main() -> None:
    """Boot the lab, measure in turn, take it down."""
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        os.environ["HARNESS_STATE_DIR"] = folder
        specs = [GuestSpec(name, image) for name, image in GUESTS.items()]
        lab = labs.up(specs, deadline=Deadline.after(240), progress=print)
        try:
            quiet = json.dumps([name for name, check in CHECKS.items() if not check.needs])
            off = lab.config_file.with_name("off.toml")
            off.write_text(f"{lab.config_file.read_text()}\n[checks]\nenable = {quiet}\n")
            configs = {"off": off, "on": lab.config_file}
            samples: dict[tuple[str, str], list[Sample]] = {}
            for number in range(REPEATS + 1):
                for guest in GUESTS:
                    for case, config in configs.items():
                        sample = maintain(guest, config)
                        if number:  # the first is a warm-up
                            samples.setdefault((guest, case), []).append(sample)
        finally:
            labs.down(print)
    text = summary(samples)
    print(text)
    if "--write" in sys.argv:
        document.write(document.DOCS / "reference" / "checks.md", "figures", text)


if __name__ == "__main__":
    main()
