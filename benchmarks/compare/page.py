"""``docs/performance.md`` from one result; never edited by hand."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
FIGURES = {
    "overhead_ms": "overhead",
    "downtime_ms": "downtime seen from outside",
    "residual_ms": "residual clock offset",
    "stale_ms": "stale clock",
    "total_s": "whole maintenance",
    "cpu_s": "CPU of the runner",
    "memory_mib": "memory of the runner",
}
UNITS = {"ms": "ms", "s": "s", "mib": "MiB"}

Sample = dict[str, Any]

HEAD = """# Performance

Written by `make bench-compare`; do not edit. Newest result: `benchmarks/results/{name}`.

{facts[repeats]} repeats each, in turn (A B C A B C …), on {facts[cores]} cores ({facts[cpu]}),
kernel {facts[kernel]}, libvirt {facts[libvirt]}, QEMU under {facts[accelerator]}, {facts[at]}.
Guests: Debian 12, one vCPU, 512 MiB, guest agent running. The update is `sleep 0.5`.

Every cell: median (95th percentile, worst). *Overhead* is the pause window minus the update;
*residual* is read over a separate connection after the maintenance, the worst guest; *stale clock*
is a guest's resume → its clock corrected, the worst guest; *downtime* is the longest silence of a
guest that is asked by ICMP echo every 20 ms, the update included. libvirt-guests saves RAM to disk;
its overhead is all but the update.

![overhead by number of guests](performance.svg)
"""


def write_page(result: dict[str, Any], name: str) -> None:
    """Replace the page."""
    samples: list[Sample] = result["samples"]
    parts = [HEAD.format(name=name, facts=result["facts"])]
    parts += [_table(samples, figure, title) for figure, title in FIGURES.items()]
    parts += [_floor(samples), _date(samples), _memory(samples), _startup(samples)]
    parts += [_broken(samples), _targets(samples)]
    PAGE.write_text("\n".join(parts))


def _values(samples: Sequence[Sample], contender: str, count: int, figure: str) -> list[float]:
    return [
        sample[figure]
        for sample in samples
        if sample["contender"] == contender
        and sample["guests"] == count
        and sample.get(figure) is not None
    ]


def _cell(values: Sequence[float], unit: str) -> str:
    if not values:
        return "–"
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    shown = [f"{value:.3g}" for value in (statistics.median(ordered), high, ordered[-1])]
    return f"{shown[0]} ({shown[1]}, {shown[2]}) {unit}"


def _table(samples: Sequence[Sample], figure: str, title: str) -> str:
    counts = sorted({sample["guests"] for sample in samples if sample["guests"]})
    contenders = ("harness", "virsh script", "libvirt-guests")
    unit = UNITS[figure.rpartition("_")[2]]
    lines = [f"## {title.capitalize()}\n", "| guests | " + " | ".join(contenders) + " |",
             "|---:|" + "---|" * len(contenders)]  # fmt: skip
    for count in counts:
        cells = [_cell(_values(samples, one, count, figure), unit) for one in contenders]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _floor(samples: Sequence[Sample]) -> str:
    counts = sorted({s["guests"] for s in samples if s["contender"] == "floor"})
    lines = [
        "## The floor\n",
        "Pausing and resuming with nothing in between, from one warm process.\n",
        "| guests | libvirt API, concurrently | QMP stop, cont | warm SSH round trip |",
        "|---:|---|---|---|",
    ]
    for count in counts:
        cells = [
            _cell(_values(samples, "floor", count, figure), "ms")
            for figure in ("overhead_ms", "qmp_ms", "ssh_ms")
        ]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _date(samples: Sequence[Sample]) -> str:
    cell = _cell(_values(samples, "date -s", 1, "residual_ms"), "ms")
    return f"## A plain `date -s` over SSH\n\nResidual: {cell}.\n"


def _memory(samples: Sequence[Sample]) -> str:
    lines = ["## Overhead by the guest's memory\n", "| memory | harness |", "|---:|---|"]
    sizes = sorted({s["memory"] for s in samples if "memory" in s})
    for size in sizes:
        values = [s["overhead_ms"] for s in samples if s.get("memory") == size]
        lines.append(f"| {size} MiB | {_cell(values, 'ms')} |")
    return "\n".join(lines) + "\n"


def _startup(samples: Sequence[Sample]) -> str:
    shown = _cell(_values(samples, "start-up", 0, "help_ms"), "ms")
    called = _cell(_values(samples, "start-up", 0, "call_ms"), "ms")
    return (
        f"## Start-up\n\n`harness --help`: {shown}, wanted ≤ 150 ms. `harness run` until its first "
        f"connection to libvirt: {called}, wanted ≤ 400 ms.\n"
    )


def _broken(samples: Sequence[Sample]) -> str:
    """What harness itself found: the others do not look."""
    runs = [sample for sample in samples if sample["contender"] == "harness"]
    broken = sorted({words for sample in runs for words in sample["broken"]})
    said = "; ".join(f"`{words}`" for words in broken) or "none"
    count = sum(bool(sample["broken"]) for sample in runs)
    return (
        "## Broken promises\n\n"
        f"harness judges its checks in each of these runs; in {count} of {len(runs)} one was "
        f"broken: {said}.\n"
    )


def _targets(samples: Sequence[Sample]) -> str:
    """Ratios of medians, and what they should be."""

    def median(contender: str, count: int, figure: str) -> float:
        values = _values(samples, contender, count, figure)
        return statistics.median(values) if values else float("nan")

    def ratio(figure: str, count: int, other: str) -> float:
        return median("harness", count, figure) / median(other, count, figure)

    rows = [
        ("overhead / floor, 1 guest", ratio("overhead_ms", 1, "floor"), "≤ 1.3"),
        ("overhead / floor, 8 guests", ratio("overhead_ms", 8, "floor"), "≤ 1.5"),
        ("overhead / virsh script, 8 guests", ratio("overhead_ms", 8, "virsh script"), "≤ 0.2"),
        ("residual / `domtime --sync`, 1 guest", ratio("residual_ms", 1, "virsh script"), "≤ 0.01"),
        ("stale clock / `domtime --sync`, 1 guest", ratio("stale_ms", 1, "virsh script"), "≤ 0.2"),
        ("stale clock / `domtime --sync`, 8 guests", ratio("stale_ms", 8, "virsh script"), "≤ 0.2"),
    ]
    lines = [
        "## Against the targets\n",
        "| ratio of medians | measured | target |",
        "|---|---:|---|",
    ]
    lines += [f"| {name} | {value:.3g} | {target} |" for name, value, target in rows]
    return "\n".join(lines) + "\n"
