"""harness beside what a user would pick instead, measured in turn on this machine.

    make bench-compare          # about half an hour on 2 cores

Boots Debian guests with the guest agent; for 1, 2, 4 and 8 of them lets each contender carry out
the same maintenance, A B C A B C …, and reads the guests' clocks afterwards over connections of its
own. Then the floor, a plain ``date -s``, and how the overhead grows with a guest's memory. Keeps
everything in ``benchmarks/results/`` and writes ``docs/explanation/performance.md`` from it. What
was measured so far is on disk after every number of guests, and is not measured again if it is
given:

    scripts/in-namespace .venv/bin/python -P -m benchmarks.compare 10 benchmarks/results/FILE.json
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import libvirt

from benchmarks.compare.contenders import CONTENDERS
from benchmarks.compare.floor import api_ms, qmp_ms, ssh_round_trip_ms
from benchmarks.compare.lab import Bench, bench, wait_for_agents
from benchmarks.compare.own import window_ms
from benchmarks.compare.page import write_page
from benchmarks.compare.plot import draw
from benchmarks.compare.prober import probing
from benchmarks.compare.startup import first_call_ms, help_ms
from harness import __version__
from harness.core.timebase import utc_now
from harness.lab.specs import GuestSpec

Sample = dict[str, Any]

COUNTS = (1, 2, 4, 8)
MEMORY_MIB = (256, 1024, 2048)
RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    """``python -P -m benchmarks.compare [REPEATS [RESULT]]``."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{utc_now():%Y%m%dT%H%M%SZ}.json"
    samples: list[Sample] = []
    if len(sys.argv) > 2:
        file = Path(sys.argv[2])
        samples = json.loads(file.read_text())["samples"]
    done = {sample["guests"] for sample in samples if sample["contender"] == "floor"}
    kinds = {sample["contender"] for sample in samples}
    names = [f"g{number}" for number in range(1, max(COUNTS) + 1)]
    for count in [count for count in COUNTS if count not in done]:
        specs = [GuestSpec(name, "debian", update_domain="0") for name in names[:count]]
        with bench(specs, persistent=True) as guests:
            wait_for_agents(guests.connection, guests.names)
            for number in range(repeats):
                print(f"{count} guests, {number + 1} of {repeats}", flush=True)
                samples += _one_round(guests)
        _keep(samples, repeats, file)
    samples += _by_memory(repeats) if "harness by memory" not in kinds else []
    samples += _without_guests(repeats) if "own" not in kinds else []
    write_page(_keep(samples, repeats, file), file.name)
    draw(samples)


def _keep(samples: Sequence[Sample], repeats: int, file: Path) -> dict[str, Any]:
    result = {"facts": _facts(repeats), "samples": samples}
    file.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _one_round(guests: Bench) -> list[Sample]:
    """Each contender once, and the floor."""
    count, names = len(guests.names), guests.names
    addresses = [guests.sessions[name].address for name in names]
    found: list[Sample] = []
    for contender, carry_out in CONTENDERS.items():
        guests.set_right(names)
        with probing(addresses) as prober:
            done = carry_out(names)
        if done.broken:
            print(f"{contender}: {'; '.join(done.broken)}", flush=True)
        residuals = guests.residuals(names).values()
        found.append(
            {
                "contender": contender,
                "guests": count,
                **asdict(done),
                "downtime_ms": prober.downtime_ms(),
                "residual_ms": max(offset for offset, _ in residuals),
                "uncertainty_ms": max(uncertainty for _, uncertainty in residuals),
            }
        )
    first = names[0]
    guests.set_by_date(first)
    residual_ms, uncertainty_ms = guests.residuals([first])[first]
    date = {"residual_ms": residual_ms, "uncertainty_ms": uncertainty_ms}
    found.append({"contender": "date -s", "guests": 1, **date})
    with probing(addresses) as prober:
        floor = api_ms(guests.connection, names)
    floor |= {
        "downtime_ms": prober.downtime_ms(),
        "qmp_ms": qmp_ms(guests.connection, names),
        "ssh_ms": ssh_round_trip_ms(guests.sessions[first].sampler),
    }
    guests.set_right(names)
    return [*found, {"contender": "floor", "guests": count, **floor}]


def _without_guests(repeats: int) -> list[Sample]:
    """What harness's own code costs, and how long a person waits for it."""
    own = [
        {"contender": "own", "guests": count, "overhead_ms": window_ms(count)}
        for _ in range(repeats)
        for count in COUNTS
    ]
    start_up = [
        {"contender": "start-up", "guests": 0, "help_ms": help_ms(), "call_ms": first_call_ms()}
        for _ in range(repeats)
    ]
    return [*own, *start_up]


def _by_memory(repeats: int) -> list[Sample]:
    """harness alone, on one guest of each size."""
    specs = [GuestSpec(f"m{mib}", "tiny", update_domain="0", memory_mib=mib) for mib in MEMORY_MIB]
    found = []
    with bench(specs) as guests:
        for _ in range(repeats):
            for spec in specs:
                done = CONTENDERS["harness"]([spec.name])
                sample = {"contender": "harness by memory", "memory": spec.memory, "guests": 1}
                found.append({**sample, "overhead_ms": done.overhead_ms})
        assert guests.names
    return found


def _facts(repeats: int) -> dict[str, Any]:
    version = libvirt.getVersion()
    return {
        "at": utc_now().isoformat(timespec="seconds"),
        "repeats": repeats,
        "harness": __version__,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libvirt": f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}",
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "accelerator": "tcg",
    }


def _cpu() -> str:
    lines: Sequence[str] = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
