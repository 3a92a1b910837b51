"""``docs/explanation/performance.md`` from one result; never edited by hand."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import product
from math import isnan
from pathlib import Path
from typing import Any

from benchmarks.qemu.page import kept

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"
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

#: harness with all its checks, and with those that need nobody to watch.
OURS = ("harness", "harness, unwatched")
#: Ratios of medians: harness's figure, at so many guests, over whose, and at most how much.
RATIOS = (
    ("overhead_ms", 1, "floor", 1.3),
    ("overhead_ms", 8, "floor", 1.3),
    ("overhead_ms", 8, "virsh script", 0.2),
    ("residual_ms", 1, "virsh script", 0.01),
    ("residual_ms", 8, "virsh script", 0.01),
    ("stale_ms", 1, "virsh script", 0.2),
    ("stale_ms", 8, "virsh script", 0.2),
)
#: With eight guests: 0.35 s of CPU and 20 ms a guest; 80 MiB and half of one a guest; and a whole
#: maintenance in half again as long as the virsh script's, and 2 s.
AT_EIGHT = {"cpu_s": (0.51, " s"), "memory_mib": (84.0, " MiB")}
LONGER, LONGER_S = 1.5, 2.0
#: Milliseconds.
START_UP = {"help_ms": ("`harness --help`", 150.0),
            "call_ms": ("`harness run` until its first connection to libvirt", 400.0)}  # fmt: skip

HEAD = """# Performance

Written by `make bench-compare`; do not edit. Newest result: `benchmarks/results/{name}`.

{facts[repeats]} repeats each, in turn (A B C A B C …), on {facts[cores]} cores ({facts[cpu]}),
kernel {facts[kernel]}, libvirt {facts[libvirt]}, QEMU under {facts[accelerator]}, {facts[at]}.
Guests: Debian 12, one vCPU, 512 MiB, guest agent running. The update is `sleep 0.5`. *Unwatched* is
harness with the checks that need no probe in the guest or outside: clock, lag, frozen,
same boot, kernel log. The others watch nothing. What watches (a program in each guest with timers,
a disk writer, a TCP session, a canary; probes from outside) is work for emulated guests, and eight
of them have two cores.

Every cell: median (95th percentile, worst). *Overhead* is the pause window minus the update;
*residual* is read over a separate connection after the maintenance, the worst guest; *stale clock*
is a guest's resume → its clock corrected, the worst guest; *downtime* is the longest silence of a
guest that is asked by ICMP echo every 20 ms, the update included. libvirt-guests saves RAM to disk;
its overhead is all but the update. *Floor* is the least there can be: the same calls to libvirt,
concurrently, from one warm process that does nothing else, with the same time in between.

![overhead by number of guests](performance.svg)
"""


#: `make bench-qemu` writes what stands below it.
QEMU = "## Replacing QEMU\n"


def write_page(result: dict[str, Any], name: str) -> None:
    """Replace the page."""
    samples: list[Sample] = result["samples"]
    parts = [HEAD.format(name=name, facts=result["facts"])]
    parts += [_targets(samples), _terms(samples)]
    parts += [_table(samples, figure, title) for figure, title in FIGURES.items()]
    parts += [_floor(samples), _date(samples), _memory(samples), _startup(samples)]
    parts += [_broken(samples), QEMU, kept(PAGE)]
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
    shown = [_number(value) for value in (statistics.median(ordered), high, ordered[-1])]
    return f"{shown[0]} ({shown[1]}, {shown[2]}) {unit}"


def _number(value: float) -> str:
    """Three digits that count, and never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _table(samples: Sequence[Sample], figure: str, title: str) -> str:
    counts = sorted({sample["guests"] for sample in samples if sample["guests"]})
    contenders = (*OURS, "virsh script", "libvirt-guests")
    unit = UNITS[figure.rpartition("_")[2]]
    lines = [f"## {title[0].upper()}{title[1:]}\n", "| guests | " + " | ".join(contenders) + " |",
             "|---:|" + "---|" * len(contenders)]  # fmt: skip
    for count in counts:
        cells = [_cell(_values(samples, one, count, figure), unit) for one in contenders]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _floor(samples: Sequence[Sample]) -> str:
    counts = sorted({s["guests"] for s in samples if s["contender"] == "floor"})
    lines = [
        "## The floor\n",
        "Pausing and resuming, and no more than waiting in between, from one warm process.\n",
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


def _by_memory(samples: Sequence[Sample]) -> dict[int, list[float]]:
    """MiB → overheads in milliseconds."""
    sizes = sorted({sample["memory"] for sample in samples if "memory" in sample})
    return {
        size: [sample["overhead_ms"] for sample in samples if sample.get("memory") == size]
        for size in sizes
    }


def _memory(samples: Sequence[Sample]) -> str:
    lines = ["## Overhead by the guest's memory\n", "| memory | harness |", "|---:|---|"]
    lines += [
        f"| {size} MiB | {_cell(values, 'ms')} |" for size, values in _by_memory(samples).items()
    ]
    return "\n".join(lines) + "\n"


def _startup(samples: Sequence[Sample]) -> str:
    shown = [
        f"{title}: {_cell(_values(samples, 'start-up', 0, figure), 'ms')}."
        for figure, (title, _) in START_UP.items()
    ]
    return "## Start-up\n\n" + " ".join(shown) + "\n"


def _broken(samples: Sequence[Sample]) -> str:
    """What harness itself found: the others do not look."""
    lines = [
        "## Broken promises\n",
        "harness judges its checks in each of these runs; so many were not kept, or could not be "
        "judged:\n",
        "| | guests | runs | of them with a broken promise | in how many runs which |",
        "|---|---:|---:|---:|---|",
    ]
    counts = sorted({sample["guests"] for sample in samples if sample["contender"] in OURS})
    for ours, count in product(OURS, counts):
        runs = [s for s in samples if s["contender"] == ours and s["guests"] == count]
        if not runs:
            continue
        found = [_checks_of(run["broken"]) for run in runs]
        which = Counter(check for checks in found for check in checks)
        said = ", ".join(f"{check} {times}" for check, times in which.most_common()) or "–"
        broken = sum(bool(one) for one in found)
        lines.append(f"| {ours} | {count} | {len(found)} | {broken} | {said} |")
    return "\n".join(lines) + "\n"


def _checks_of(broken: Sequence[str]) -> set[str]:
    """``GUEST: CHECK: DETAIL`` of one run → its checks."""
    return {words.split(": ")[1] for words in broken}


def _median(samples: Sequence[Sample], contender: str, count: int, figure: str) -> float:
    values = _values(samples, contender, count, figure)
    return statistics.median(values) if values else float("nan")


def _targets(samples: Sequence[Sample]) -> str:
    """What should be reached, and whether it is."""
    rows = []
    for (figure, count, other, most), ours in product(RATIOS, OURS):
        ratio = _median(samples, ours, count, figure) / _median(samples, other, count, figure)
        of = "`domtime --sync`" if figure != "overhead_ms" else f"the {other}"
        name = f"{ours}: {FIGURES[figure]} / that of {of}, {_guests(count)}"
        rows.append((name, ratio, most, ""))
    rows += _of_the_runner(samples)
    by_memory = _by_memory(samples)
    small, large = min(by_memory), max(by_memory)
    growth = statistics.median(by_memory[large]) / statistics.median(by_memory[small])
    rows.append((f"overhead with {large} MiB / with {small} MiB, 1 guest", growth, 1.3, ""))
    for figure, (title, most) in START_UP.items():
        rows.append((title, _median(samples, "start-up", 0, figure), most, " ms"))
    lines = ["## Against the targets\n", "| medians | measured | target | |", "|---|---:|---:|---|"]
    for name, value, most, unit in rows:
        if isnan(value):
            continue  # not measured
        verdict = "met" if value <= most else "**missed**"
        lines.append(f"| {name} | {value:.3g}{unit} | ≤ {most:g}{unit} | {verdict} |")
    return "\n".join(lines) + "\n"


def _of_the_runner(samples: Sequence[Sample]) -> list[tuple[str, float, float, str]]:
    """What eight guests may cost, as rows: name, measured, at most, unit."""
    rows = []
    for (figure, (most, unit)), ours in product(AT_EIGHT.items(), OURS):
        name = f"{ours}: {FIGURES[figure]}, {_guests(8)}"
        rows.append((name, _median(samples, ours, 8, figure), most, unit))
    theirs = _median(samples, "virsh script", 8, "total_s")
    for ours in OURS:
        name = f"{ours}: {FIGURES['total_s']}, {_guests(8)} (the virsh script: {theirs:.3g} s)"
        most = round(LONGER * theirs + LONGER_S, 2)
        rows.append((name, _median(samples, ours, 8, "total_s"), most, " s"))
    return rows


def _guests(count: int) -> str:
    return f"{count} guest" if count == 1 else f"{count} guests"


TERMS = """## Where the overhead goes

Medians in milliseconds, of harness and, in parentheses, of the floor. *Pausing*: the first call →
the last guest is paused. *Resuming*: the first call → the last guest runs. *Between*: the update's
thread, the journal, what probes look up in `/proc`. *Own code*: a whole window on libvirt's test
driver, whose calls take no time: threads, locks, journal.

| | guests | overhead | pausing | between | resuming | own code |
|---|---:|---:|---:|---:|---:|---:|
"""


def _terms(samples: Sequence[Sample]) -> str:
    counts = sorted({s["guests"] for s in samples if s["contender"] == "floor"})
    measured = [
        (ours, count)
        for ours, count in product(OURS, counts)
        if _values(samples, ours, count, "overhead_ms")
    ]
    table = "\n".join(_term(samples, *which) for which in measured)
    return f"{TERMS}{table}\n\n{_left(samples, max(counts))}\n"


def _left(samples: Sequence[Sample], count: int) -> str:
    """What of the overhead with most guests is whose, in words."""
    all_checks, unwatched, floor, own = (
        _median(samples, one, count, "overhead_ms") for one in (*OURS, "floor", "own")
    )
    watched = all_checks - unwatched
    return (
        f"So of {all_checks:.0f} ms with {_guests(count)} and all checks, {floor:.0f} ms are the\n"
        f"floor, {unwatched - floor:.0f} ms what harness adds without probes (its own code: "
        f"{own:.0f} ms,\npartly while libvirt is busy), and {watched:.0f} ms the work of those who "
        "watch: in guests that\nshare the cores with the calls that pause and resume them, and of "
        "their threads in harness."
    )


def _term(samples: Sequence[Sample], ours: str, count: int) -> str:
    def both(figure: str) -> str:
        mine, floor = (_median(samples, one, count, figure) for one in (ours, "floor"))
        return f"{mine:.1f} ({floor:.1f})"

    between = statistics.median(
        s["overhead_ms"] - s["pausing_ms"] - s["resuming_ms"]
        for s in samples
        if s["contender"] == ours and s["guests"] == count
    )
    own = _median(samples, "own", count, "overhead_ms")
    cells = [both("overhead_ms"), both("pausing_ms"), f"{between:.1f}", both("resuming_ms")]
    return f"| {ours} | {count} | " + " | ".join(cells) + f" | {own:.1f} |"
