"""Pictures that stand alone, in files: a figure over time, and every run of an experiment.

A picture says what it shows, of which host and of how many runs; times are in milliseconds, long
ones in seconds; runs that did not pass have a colour of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import InfrastructureError
from harness.core.files import write_atomically
from harness.core.records import Outcome
from harness.results.report import drawing
from harness.results.report.drawing import VARIABLES
from harness.results.report.spoken import counted, printable

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: A picture is what the ending of its file says.
ENDINGS = (".svg", ".png", ".pdf")
#: Longer times than this are in seconds.
_IN_SECONDS_FROM_S = 10.0
_DOTS_AN_INCH = 200
_HEIGHT_IN = 3.0
_TITLE_IN = 0.62
_COLOURS = {Outcome.PASS: "--stale", Outcome.FAIL: "--fail", Outcome.ERROR: "--ink"}


@dataclass(frozen=True)
class Point:
    """One measured value, and what came of its run."""

    value: float
    outcome: Outcome = Outcome.PASS


@dataclass(frozen=True)
class Said:
    """What is written on a picture."""

    title: str
    unit: str
    """``s`` for times in seconds; "" where values have no unit."""
    hosts: Sequence[str]
    runs: int


#: Draws a picture in colours that are given by the names of the style sheet's variables.
Drawing = Callable[[Mapping[str, str]], "Figure"]


def over_time(days: Sequence[float], points: Sequence[Point], said: Said) -> Drawing:
    """Return what draws a figure over time; ``days`` are days since 1970."""

    def draw(colours: Mapping[str, str]) -> Figure:
        figure, axes = drawing.blank(_HEIGHT_IN, said.title, colours)
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # loaded by blank()

        bottom, top = 0.5 / _HEIGHT_IN, 1 - _TITLE_IN / _HEIGHT_IN
        figure.subplots_adjust(0.15, bottom, 0.97, top)
        factor, unit = _scale([point.value for point in points], said.unit)
        values = [point.value * factor for point in points]
        axes.plot(list(days), values, color=colours["--faint"], linewidth=1, zorder=1)
        _dots(axes, list(days), values, points, colours)
        locator = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(
            ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
        )
        if len(set(days)) == 1:
            axes.set_xlim(days[0] - 1, days[0] + 1)
        axes.set_ylim(bottom=min(0.0, *values))
        axes.set_ylabel(unit)
        _write_titles(figure, said, points, colours)
        return figure

    return draw


def by_group(groups: Sequence[tuple[str, Sequence[Point]]], said: Said) -> Drawing:
    """Return what draws every value of each group as a dot, and its median as a bar."""

    def draw(colours: Mapping[str, str]) -> Figure:
        from statistics import median

        names = [f"{name} (n={len(points)})" for name, points in groups]
        figure, axes = drawing.rows(names, said.title, colours, above_in=_TITLE_IN)
        everything = [point for _, points in groups for point in points]
        factor, unit = _scale([point.value for point in everything], said.unit)
        for row, (_, points) in enumerate(groups):
            values = [point.value * factor for point in points]
            _dots(axes, values, [row + 0.08] * len(values), points, colours)
            middle = [median(values)] * 2
            axes.plot(middle, [row - 0.18, row + 0.34], color=colours["--corrected"], linewidth=2.5)
        axes.set_xlabel(f"{unit}; bar: median")
        _write_titles(figure, said, everything, colours)
        return figure

    return draw


def _scale(values: Sequence[float], unit: str) -> tuple[float, str]:
    if unit == "s" and max(map(abs, values), default=0.0) < _IN_SECONDS_FROM_S:
        return 1000.0, "ms"
    return 1.0, unit


def _dots(
    axes: Axes,
    across: Sequence[float],
    up: Sequence[float],
    points: Sequence[Point],
    colours: Mapping[str, str],
) -> None:
    """Draw a dot a point, in the colour of its run's outcome."""
    for outcome, variable in _COLOURS.items():
        chosen = [n for n, point in enumerate(points) if point.outcome is outcome]
        if chosen:
            axes.plot(
                [across[n] for n in chosen],
                [up[n] for n in chosen],
                linestyle="none",
                marker="o" if outcome is Outcome.PASS else "X",
                markersize=4 if outcome is Outcome.PASS else 5,
                alpha=0.75,
                color=colours[variable],
                label=outcome.value,
            )


def _write_titles(
    figure: Figure, said: Said, points: Sequence[Point], colours: Mapping[str, str]
) -> None:
    """Write what is shown, then of what; with a legend where not every run has passed."""
    height_in = float(figure.get_size_inches()[1])
    figure.text(0.03, 1 - 0.2 / height_in, printable(said.title), fontsize=10.5, weight="bold")
    hosts = ", ".join(dict.fromkeys(said.hosts))
    of = printable(f"{hosts}: {counted(said.runs, 'run')}" if hosts else counted(said.runs, "run"))
    figure.text(0.03, 1 - 0.4 / height_in, of, fontsize=8.5, color=colours["--faint"])
    if any(point.outcome is not Outcome.PASS for point in points):
        handles: dict[str, Artist] = {}
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(str(label), handle)
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="upper right",
            bbox_to_anchor=(0.98, 1 - 0.22 / height_in),
            ncols=len(handles),
            frameon=False,
            fontsize=8.5,
            borderpad=0,
            handletextpad=0.1,
        )


def write(file: Path, draw: Drawing) -> None:
    """Write a picture as the ending of ``file`` says. Raises InfrastructureError."""
    ending = file.suffix.lower()
    if ending == ".svg":
        write_atomically(file, _alone(drawing.svg(draw(VARIABLES), file.stem)))
        return
    temporary = file.with_name(f".{file.name}.new")
    try:
        with drawing.quiet_about_glyphs():
            draw(_light()).savefig(
                temporary,
                format=ending.removeprefix("."),
                dpi=_DOTS_AN_INCH,
                facecolor=_light()["--page"],
                metadata={"CreationDate": None} if ending == ".pdf" else {"Software": None},
            )
        temporary.replace(file)
    except OSError as error:
        raise InfrastructureError(f"cannot write {file}: {error.strerror}") from error


def _sheet() -> str:
    """Return the colours of the page's style sheet, for light and for dark."""
    style = (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    return style[: style.index("\n* {")]


def _light() -> dict[str, str]:
    """Return the colours by their variables, for paper."""
    sheet = _sheet()
    return dict(re.findall(r"(--[a-z]+): (#[0-9a-f]+)", sheet[: sheet.index("}")]))


def _alone(picture: str) -> str:
    """Return the picture as a file of its own, with its colours for light and dark."""
    paper = "svg { background: var(--page); font-family: sans-serif; }"
    head, _, body = picture.partition(">")
    return f"{head}><style>{_sheet()}\n{paper}</style>{body}"
