"""Samples → tables and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import document
from benchmarks.compare.page import OURS

Sample = dict[str, Any]
FLOORS = ("floor", "floor, watched")
WAYS = (*OURS, "virsh script", *FLOORS)
_PICTURE = document.DOCS / "explanation" / "scale.svg"
#: Of the pause of 500 ms: a clock that is further off was not set.
_WRONG_MS = 250.0
_FIGURES = {
    "overhead_ms": "overhead, ms",
    "stale_ms": "stale clock, ms",
    "residual_ms": "residual offset, ms",
    "total_s": "whole maintenance, s",
    "cpu_s": "CPU, s",
    "memory_mib": "memory, MiB",
    "threads": "threads",
    "descriptors": "descriptors",
}


def tables(samples: Sequence[Sample]) -> str:
    """Medians (worst) by way and number of guests, then ratios, then the cost of one more guest."""
    return "\n\n".join((_medians(samples), _ratios(samples), _growth(samples)))


def median(samples: Sequence[Sample], way: str, guests: int, figure: str) -> float | None:
    """Return None where that was not measured."""
    values = _values(samples, way, guests, figure)
    return statistics.median(values) if values else None


def _values(samples: Sequence[Sample], way: str, guests: int, figure: str) -> list[float]:
    return [
        one[figure]
        for one in samples
        if (one["way"], one["guests"]) == (way, guests) and one.get(figure) is not None
    ]


def _counts(samples: Sequence[Sample], way: str) -> list[int]:
    return sorted({one["guests"] for one in samples if one["way"] == way})


def _medians(samples: Sequence[Sample]) -> str:
    rows = []
    for way in (*WAYS, "in memory"):
        for guests in _counts(samples, way):
            cells = []
            for figure in _FIGURES:
                values = _values(samples, way, guests, figure)
                middle = f"{statistics.median(values):.4g} ({max(values):.4g})" if values else "–"
                cells.append(middle)
            rows.append([way, str(guests), *cells])
    return document.table(["way", "guests", *_FIGURES.values()], rows)


def _ratios(samples: Sequence[Sample]) -> str:
    rows = []
    for way in (*OURS, *FLOORS[1:]):
        for guests in _counts(samples, way):
            cells = [
                _over(samples, way, guests, "overhead_ms", "floor"),
                _stale_over_script(samples, way, guests),
                _over(samples, way, guests, "total_s", "virsh script"),
            ]
            rows.append([way, str(guests), *cells])
    header = ["ratios of medians", "guests", "overhead / floor", "stale clock / virsh script"]
    return document.table([*header, "whole maintenance / virsh script"], rows)


def _over(samples: Sequence[Sample], way: str, guests: int, figure: str, other: str) -> str:
    ours = median(samples, way, guests, figure)
    theirs = median(samples, other, guests, figure)
    return "–" if ours is None or not theirs else f"{ours / theirs:.2f}"


def _stale_over_script(samples: Sequence[Sample], way: str, guests: int) -> str:
    """No ratio where the script's clocks stayed wrong: how soon it gave up is no yardstick."""
    ours = median(samples, way, guests, "stale_ms")
    left_ms = median(samples, "virsh script", guests, "residual_ms")
    if ours is not None and left_ms is not None and left_ms > _WRONG_MS:
        return f"its clocks stay {left_ms:.0f} ms wrong"
    return _over(samples, way, guests, "stale_ms", "virsh script")


def _growth(samples: Sequence[Sample]) -> str:
    """What each guest more costs between two counts: the same everywhere if it is linear."""
    rows = []
    for way in (*WAYS, "in memory"):
        counts = _counts(samples, way)
        for fewer, more in zip(counts, counts[1:], strict=False):
            cells = []
            for figure in ("overhead_ms", "stale_ms", "cpu_s", "memory_mib", "threads"):
                pair = [median(samples, way, count, figure) for count in (fewer, more)]
                known = pair[0] is not None and pair[1] is not None
                cells.append(f"{(pair[1] - pair[0]) / (more - fewer):.3g}" if known else "–")
            rows.append([way, f"{fewer} → {more}", *cells])
    header = ["each guest more", "guests", "overhead, ms", "stale clock, ms", "CPU, s"]
    return document.table([*header, "memory, MiB", "threads"], rows)


def draw(samples: Sequence[Sample]) -> None:
    """Replace the picture: overhead and stale clock by the number of guests."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "harness"  # the same samples, the same file
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(9.0, 3.4))
    for axes, name in zip(both, ("overhead_ms", "stale_ms"), strict=True):
        for way in WAYS:
            counts = [n for n in _counts(samples, way) if _values(samples, way, n, name)]
            medians = [median(samples, way, n, name) for n in counts]
            if counts:
                axes.plot(counts, medians, marker="o", label=way)
        axes.set_xlabel("guests")
        axes.set_ylabel(_FIGURES[name])
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
    both[0].legend(frameon=False, fontsize="small")
    figure.tight_layout()
    figure.savefig(_PICTURE, metadata={"Date": None})
    pyplot.close(figure)
