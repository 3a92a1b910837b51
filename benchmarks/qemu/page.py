"""The part about kind qemu in docs/explanation/performance.md, and its picture: as measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import document
from benchmarks.qemu.steps import STEPS

PAGE = document.DOCS / "explanation" / "performance.md"
PICTURE = document.DOCS / "explanation" / "performance-qemu.svg"
PART = "qemu"
OURS, BARE = "harness", "libvirt, bare"
#: In the order of the table; those without libvirt come last.
BY_QMP = ("by hand", "cpr-transfer", "cpr-exec")
CONTENDERS = (OURS, BARE, "virsh save, restore", "libvirt-guests", *BY_QMP)
#: Ours over libvirt's bare calls; the largest memory over the smallest.
RATIO, FLAT = 1.15, 1.3

Sample = dict[str, Any]

TEXT = """Written by `make bench-qemu`; do not edit. Newest result: `benchmarks/results/{name}`.

One guest's pause while its QEMU is replaced by the same QEMU, {facts[qemu]};
{facts[repeats]} repeats each, in turn (A B C C B A …), a quarter of them of those that copy RAM, on
{facts[machine]}, under TCG,
{facts[at]}; others used the machine: load {loads}.
A tiny guest, one vCPU, two fifths of its memory in use, known to libvirt beyond its life (parked as
a managed save) but where it says *transient*. *harness*: a whole `harness run`, all checks on.
*libvirt, bare*: the same calls of libvirt from a warm process; what can be done before the pause or
after it is done there, and nothing is journalled, looked for or compared. *By hand*: the same
without libvirt, by QMP. *cpr-transfer*: by QMP, memfd, a QEMU that is started before the pause,
{second}. *cpr-exec*: by QMP, memfd, the same process loads its program anew, {third}.
`virsh save` writes to a disk. Every cell: median (worst), milliseconds.

![pause by the guest's memory](performance-qemu.svg)

{table}

{targets}

Where it goes: medians in milliseconds, with {small} MiB. Of harness, a step is from one line of its
journal to the next, so it holds what harness does around libvirt's call: writing lines, finding the
process, comparing the RAM's inode, turning off `x-ignore-shared`; *pausing* begins with a line that
is written before the pause. *Between*: what is left of the pause.

{steps}
"""


def write_part(result: dict[str, Any], name: str) -> None:
    """Replace this part of the page, and the picture."""
    samples: list[Sample] = result["samples"]
    loads = [sample["load"] for sample in samples]
    text = TEXT.format(
        name=name,
        facts=result["facts"],
        loads=f"{min(loads):.0f} to {max(loads):.0f}",
        second=f"QEMU {result['facts']['second'] or 'not there'}",
        third=f"QEMU {result['facts'].get('third') or 'not there'}",
        small=_sizes(samples)[0],
        table=_table(samples),
        targets=_targets(samples),
        steps=_steps(samples),
    )
    document.write(PAGE, PART, text)
    _draw(samples)


def _totals(samples: Sequence[Sample], contender: str, mib: int, *, transient: bool) -> list[float]:
    return [
        sample["total_ms"]
        for sample in samples
        if (sample["contender"], sample["memory"], sample["transient"])
        == (contender, mib, transient)
    ]


def _sizes(samples: Sequence[Sample]) -> list[int]:
    return sorted({sample["memory"] for sample in samples})


def _rows(samples: Sequence[Sample]) -> list[tuple[str, int, bool]]:
    """What it is called, memory, transient."""
    sizes = _sizes(samples)
    return [(f"{sizes[0]} MiB, transient", sizes[0], True)] + [
        (f"{mib} MiB", mib, False) for mib in sizes
    ]


def _table(samples: Sequence[Sample]) -> str:
    rows = []
    for title, mib, transient in _rows(samples):
        columns = [_totals(samples, one, mib, transient=transient) for one in CONTENDERS]
        rows.append([title, *map(_cell, columns)])
    return document.table(["", *CONTENDERS], rows)


def _cell(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({max(values):.0f})" if values else "–"


def _targets(samples: Sequence[Sample]) -> str:
    sizes = _sizes(samples)
    rows = []
    for title, mib, transient in _rows(samples):
        ours, bare = (
            statistics.median(_totals(samples, one, mib, transient=transient))
            for one in (OURS, BARE)
        )
        rows.append((f"harness / libvirt, bare; {title}", ours / bare, RATIO))
    large, small = (
        statistics.median(_totals(samples, OURS, mib, transient=False))
        for mib in (sizes[-1], sizes[0])
    )
    rows.append((f"harness, {sizes[-1]} MiB / {sizes[0]} MiB", large / small, FLAT))
    return document.table(
        ["medians", "measured", "target", ""],
        [
            [what, f"{value:.2f}", f"≤ {most:g}", "met" if value <= most else "**missed**"]
            for what, value, most in rows
        ],
    )


def _steps(samples: Sequence[Sample]) -> str:
    small = _sizes(samples)[0]
    rows = []
    for contender in (OURS, BARE, *BY_QMP):
        which = (contender, small, False)
        found = [s for s in samples if (s["contender"], s["memory"], s["transient"]) == which]
        if not found:
            continue
        cells = [_step([s["steps_ms"][step] for s in found if step in s["steps_ms"]])
                 for step in STEPS]  # fmt: skip
        between = [s["total_ms"] - sum(s["steps_ms"].values()) for s in found]
        rows.append([contender, *cells, _step(between)])
    return document.table(["", *STEPS, "between"], rows)


def _step(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f}" if values else "–"


def _draw(samples: Sequence[Sample]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "harness"  # the same samples, the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.2))
    sizes = _sizes(samples)
    for contender in CONTENDERS:
        columns = [_totals(samples, contender, mib, transient=False) for mib in sizes]
        if all(columns):
            medians = [statistics.median(values) for values in columns]
            axes.plot(sizes, medians, marker="o", label=contender)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(mib) for mib in sizes])
    axes.set_xlabel("the guest's memory, MiB")
    axes.set_ylabel("pause, ms")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


def kept(page: Path = PAGE) -> str:
    """This part as the page has it now, marks and all, for whoever writes the page anew."""
    old = page.read_text(encoding="utf-8")
    begin, end = old.index(f"<!-- {PART}:"), old.index(f"<!-- /{PART} -->")
    return f"{old[begin:end]}<!-- /{PART} -->\n"
