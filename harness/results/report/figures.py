"""Pictures as inline SVG, coloured by the page's own style sheet so that dark is dark.

Names of guests are data: they are drawn as plain text (no mathematics), shortened, and escaped by
the library that writes the SVG.
"""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.core.paths import cache_dir
from harness.results.report.spoken import printable
from harness.results.report.story import DomainStory, Stretch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.core.records import GuestRecord

#: What is drawn in these colours is coloured by the style sheet's variable of that name.
_VARIABLES = {
    "--ink": "#010101",
    "--faint": "#010102",
    "--budget": "#010103",
    "--pausing": "#010104",
    "--paused": "#010105",
    "--resuming": "#010106",
    "--stale": "#010107",
    "--corrected": "#010108",
    "--running": "#010109",
    "--before": "#01010a",
    "--allowed": "#01010b",
    "--fail": "#01010c",
}
STRETCH_VARIABLES = {
    Stretch.PAUSING: "--pausing",
    Stretch.PAUSED: "--paused",
    Stretch.RESUMING: "--resuming",
    Stretch.STALE: "--stale",
    Stretch.WRONG: "--fail",
    Stretch.CORRECTED: "--corrected",
    Stretch.RUNNING: "--running",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": _VARIABLES["--faint"],
    "axes.labelcolor": _VARIABLES["--ink"],
    "xtick.color": _VARIABLES["--faint"],
    "xtick.labelcolor": _VARIABLES["--ink"],
    "ytick.color": _VARIABLES["--faint"],
    "ytick.labelcolor": _VARIABLES["--ink"],
    "text.color": _VARIABLES["--ink"],
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_WIDTH_IN = 5.0
_ROW_IN = 0.34
_NAME_LENGTH = 40
#: A stretch of milliseconds is drawn at least this wide (of the whole), so that it can be seen.
_NARROWEST = 0.008
#: Within this an offset is drawn to scale, beyond it by decades.
_LINEAR_S = 0.001


def timeline(story: DomainStory, budget_s: float, salt: str) -> str:
    """One row a guest: pausing, paused, resuming, stale clock, corrected; the budget as a line."""
    figure, axes = _rows([guest.name for guest in story.guests], salt)
    narrowest_s = story.end_s * _NARROWEST
    for row, guest in enumerate(story.guests):
        drawn_until_s = 0.0
        for span in guest.spans:
            start_s = max(span.start_s, drawn_until_s)
            drawn_until_s = max(span.end_s, start_s + narrowest_s)
            axes.broken_barh(
                [(start_s, drawn_until_s - start_s)],
                (row - 0.18, 0.52),
                facecolors=_VARIABLES[STRETCH_VARIABLES[span.what]],
            )
    axes.axvline(budget_s, color=_VARIABLES["--budget"], linewidth=1.4, linestyle=(0, (4, 2)))
    axes.set_xlim(0, story.end_s)
    axes.set_xlabel(f"seconds; dashed: the budget of {budget_s:g} s")
    return _svg(figure, salt)


def offsets(guests: Sequence[GuestRecord], salt: str) -> str:
    """One row a guest: its clock before, after the resume and in the end, with error bars."""
    figure, axes = _rows([guest.name for guest in guests], salt)
    for row, guest in enumerate(guests):
        for allowed in _allowed(guest):
            axes.broken_barh(
                [(-allowed, 2 * allowed)],
                (row - 0.18, 0.52),
                facecolors=_VARIABLES["--allowed"],
            )
    for when, variable, marker in (
        ("before", "--before", "s"),
        ("after_resume", "--stale", "D"),
        ("after_correction", "--corrected", "o"),
    ):
        found = [(row, getattr(guest.clock, when)) for row, guest in enumerate(guests)]
        known = [(row, reading) for row, reading in found if reading is not None]
        axes.errorbar(  # all at once: a call costs more than what it draws
            [reading.offset_s for _, reading in known],
            [row + 0.08 for row, _ in known],
            xerr=[reading.uncertainty_s for _, reading in known],
            linestyle="none",
            color=_VARIABLES[variable],
            marker=marker,
            markersize=4.5,
            capsize=3,
            elinewidth=1.4,
        )
    _decades(axes, guests)
    return _svg(figure, salt)


def _allowed(guest: GuestRecord) -> list[float]:
    checks = [check for check in guest.checks if check.name == "clock"]
    return [float(c.allowed) for c in checks if isinstance(c.allowed, int | float)]


def _decades(axes: Axes, guests: Sequence[GuestRecord]) -> None:
    """Linear within a millisecond, by decades beyond; labelled in words."""
    reach = _LINEAR_S * 10
    lowest = highest = 0.0
    for guest in guests:
        clock = guest.clock
        for reading in (clock.before, clock.after_resume, clock.after_correction):
            if reading is not None:
                lowest = min(lowest, reading.offset_s - reading.uncertainty_s)
                highest = max(highest, reading.offset_s + reading.uncertainty_s)
    axes.set_xscale("symlog", linthresh=_LINEAR_S, linscale=0.6)
    axes.set_xlim(min(lowest * 2, -reach), max(highest * 2, reach * 3))
    left, right = axes.get_xlim()
    sizes = [_LINEAR_S * 10**power for power in range(0, 9)]
    ticks = [-size for size in reversed(sizes)] + [0.0] + sizes
    ticks = [tick for tick in ticks if left <= tick <= right]
    if len(ticks) > 9:
        ticks = [tick for tick in ticks if tick == 0 or round(abs(tick) * 1000) in _SPARSE_MS]
    axes.set_xticks(ticks, [_spoken(tick) for tick in ticks])
    axes.minorticks_off()
    axes.axvline(0, color=_VARIABLES["--faint"], linewidth=0.8)
    axes.set_xlabel("slow  ←  guest's clock  →  fast")


_SPARSE_MS = {1, 100, 10_000, 1_000_000, 100_000_000}


def _spoken(seconds: float) -> str:
    if seconds == 0:
        return "0"
    sign = "−" if seconds < 0 else ""
    size = abs(seconds)
    return f"{sign}{size * 1000:.0f} ms" if size < 1 else f"{sign}{size:.0f} s"


def line(days: Sequence[float], values: Sequence[float], unit: str, salt: str) -> str:
    """A figure over time; ``days`` are Matplotlib's date numbers (days since 1970)."""
    _load()
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    figure, axes = _blank(2.2, salt, "constrained")
    axes.plot(
        list(days), list(values), marker="o", markersize=4, color=_VARIABLES["--stale"], linewidth=1
    )
    locator = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    axes.set_ylim(bottom=min(0.0, *values))
    axes.set_ylabel(unit)
    return _svg(figure, salt)


def dots(groups: Sequence[tuple[str, Sequence[float]]], unit: str, salt: str) -> str:
    """Every value of each group as a dot, its median as a bar: a question of an experiment."""
    from statistics import median

    figure, axes = _rows([f"{name} (n={len(values)})" for name, values in groups], salt)
    for row, (_, values) in enumerate(groups):
        axes.plot(
            list(values),
            [row + 0.08] * len(values),
            linestyle="none",
            marker="o",
            markersize=4,
            alpha=0.6,
            color=_VARIABLES["--stale"],
        )
        axes.plot(
            [median(values)] * 2,
            [row - 0.18, row + 0.34],
            color=_VARIABLES["--corrected"],
            linewidth=2.5,
        )
    axes.set_xlabel(f"{unit}; bar: median")
    return _svg(figure, salt)


def alone(picture: str) -> str:
    """The picture as a file of its own, with its colours for light and dark."""
    style = (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    colours = style[: style.index("\n* {")]
    paper = "svg { background: var(--page); font-family: sans-serif; }"
    head, _, body = picture.partition(">")
    return f"{head}><style>{colours}\n{paper}</style>{body}"


def _load() -> None:
    """Load the library, with its own defaults: it reads a matplotlibrc of the current folder.

    Who has loaded it before us has settings that are not ours to change.
    """
    if "matplotlib" not in sys.modules:
        os.environ.setdefault("MPLCONFIGDIR", str(cache_dir() / "matplotlib"))
        import matplotlib

        matplotlib.rcdefaults()


def _blank(
    height_in: float, salt: str, layout: Literal["constrained"] | None = None
) -> tuple[Figure, Axes]:
    _load()
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": salt})
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout=layout)
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _rows(names: Sequence[str], salt: str) -> tuple[Figure, Axes]:
    """A row a name, the name above its row, so that a long one costs no width."""
    height_in = 0.55 + _ROW_IN * max(len(names), 1) * 1.15
    figure, axes = _blank(height_in, salt)
    # By hand, because finding the margins costs more than all the rest.
    figure.subplots_adjust(0.03, 0.5 / height_in, 0.97, 1 - 0.05 / height_in)
    axes.set_ylim(len(names) - 0.55, -0.65)
    axes.set_yticks([])
    for row, name in enumerate(names):
        shown = printable(name)
        if len(shown) > _NAME_LENGTH:
            shown = shown[: _NAME_LENGTH - 1] + "…"
        axes.text(
            0, row - 0.24, shown, transform=axes.get_yaxis_transform(), fontsize=8.5, va="bottom"
        )
    return figure, axes


def _svg(figure: Figure, salt: str) -> str:
    from matplotlib import rc_context

    out = io.StringIO()
    with warnings.catch_warnings(), rc_context({"svg.hashsalt": salt}):
        # A name in a script that our font lacks: the browser's fonts have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", metadata=nothing, transparent=True)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    head, _, body = text.partition(">")
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    head = re.sub(r' (width|height|version)="[^"]*"', "", head)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # the same in every picture; nobody refers to them
    for variable, colour in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return f"{head}>{body}"
