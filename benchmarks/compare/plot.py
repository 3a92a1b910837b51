"""A small picture: overhead by number of guests."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PICTURE = Path(__file__).parents[2] / "docs" / "explanation" / "performance.svg"


def draw(samples: Sequence[dict[str, Any]]) -> None:
    """Replace the picture; medians on a logarithmic scale."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "harness"  # the same samples, the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.2))
    for contender in ("libvirt-guests", "virsh script", "harness", "harness, unwatched", "floor"):
        by_count: dict[int, list[float]] = {}
        for sample in samples:
            if sample["contender"] == contender and sample.get("overhead_ms") is not None:
                by_count.setdefault(sample["guests"], []).append(sample["overhead_ms"])
        counts = sorted(by_count)
        medians = [statistics.median(by_count[count]) for count in counts]
        axes.plot(counts, medians, marker="o", label=contender)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes.set_xlabel("guests")
    axes.set_ylabel("overhead, ms")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})
