"""harness beside what a user would pick instead, measured in turn on this machine.

    make bench-compare          # about half an hour on 2 cores

Boots Debian guests with the guest agent; for 1, 2, 4 and 8 of them lets each contender carry out
the same maintenance, A B C A B C …, and reads the guests' clocks afterwards over connections of its
own. Then the floor, a plain ``date -s``, and how the overhead grows with a guest's memory. Keeps
everything in ``benchmarks/results/`` and writes ``docs/explanation/performance.md`` from it. What
was measured so far is on disk after every number of guests, and is not measured again if it is
given:

    scripts/in-namespace .venv/bin/python -P -m benchmarks.compare 10 benchmarks/results/FILE.json

``--minutes 6`` (``make bench-compare MINUTES=6``): each number of guests is measured for its part
of that time, once at least.
"""

from __future__ import annotations

import json
import os
import platform
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Sequence
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
from harness.core.timebase import Deadline, utc_now
from harness.lab.specs import GuestSpec

Sample = dict[str, Any]

#: The one that most targets are for comes first, in case that time is short.
COUNTS = (8, 1, 4, 2)
MEMORY_MIB = (256, 1024, 2048)
RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    """``python -P -m benchmarks.compare [REPEATS [RESULT]] [--minutes MINUTES]``."""
    parser = ArgumentParser()
    parser.add_argument("repeats", nargs="?", type=int, default=10)
    parser.add_argument("result", nargs="?", type=Path)
    parser.add_argument("--minutes", type=float)
    asked = parser.parse_args()
    until = Deadline.after(60 * (asked.minutes or 60 * 24))
    RESULTS.mkdir(exist_ok=True)
    file = asked.result or RESULTS / f"{utc_now():%Y%m%dT%H%M%SZ}.json"
    samples: list[Sample] = json.loads(file.read_text())["samples"] if asked.result else []
    done = {sample["guests"] for sample in samples if sample["contender"] == "floor"}
    kinds = {sample["contender"] for sample in samples}
    names = [f"g{number}" for number in range(1, max(COUNTS) + 1)]
    left = [count for count in COUNTS if count not in done]
    while left:
        # The rest, without guests and by memory, takes about as long as one number of guests.
        mine = until.sooner(until.remaining_s() / (len(left) + 1))
        count = left.pop(0)
        specs = [GuestSpec(name, "debian", update_domain="0") for name in names[:count]]
        with bench(specs, persistent=True) as guests:
            wait_for_agents(guests.connection, guests.names)
            for number in _rounds(asked.repeats, mine):
                print(f"{count} guests, {number + 1} of {asked.repeats}", flush=True)
                samples += _one_round(guests)
        _keep(samples, file)
    samples += [] if "harness by memory" in kinds else _by_memory(_rounds(asked.repeats, until))
    samples += [] if "own" in kinds else _without_guests(min(asked.repeats, _repeats(samples)[1]))
    write_page(_keep(samples, file), file.name)
    draw(samples)


def _rounds(repeats: int, until: Deadline) -> Iterator[int]:
    """So many, or fewer where the time is over; one at least."""
    for number in range(repeats):
        if number and until.expired:
            return
        yield number


def _repeats(samples: Sequence[Sample]) -> tuple[int, int]:
    """The fewest and the most rounds of any number of guests."""
    rounds = Counter(one["guests"] for one in samples if one["contender"] == "floor")
    return min(rounds.values()), max(rounds.values())


def _keep(samples: Sequence[Sample], file: Path) -> dict[str, Any]:
    result = {"facts": _facts(samples), "samples": samples}
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


def _by_memory(rounds: Iterator[int]) -> list[Sample]:
    """harness alone, on one guest of each size."""
    specs = [GuestSpec(f"m{mib}", "tiny", update_domain="0", memory_mib=mib) for mib in MEMORY_MIB]
    found = []
    with bench(specs) as guests:
        for _ in rounds:
            for spec in specs:
                done = CONTENDERS["harness"]([spec.name])
                sample = {"contender": "harness by memory", "memory": spec.memory, "guests": 1}
                found.append({**sample, "overhead_ms": done.overhead_ms})
        assert guests.names
    return found


def _facts(samples: Sequence[Sample]) -> dict[str, Any]:
    version = libvirt.getVersion()
    fewest, most = _repeats(samples)
    return {
        "at": utc_now().isoformat(timespec="seconds"),
        "repeats": fewest if fewest == most else f"{fewest} to {most}",
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
