"""How ``harness history`` shows what it found: the columns of ``list``, CSV, bars, a plot."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.core.extras import require
from harness.core.streams import forget_lost_output
from harness.results.report.spoken import printable

if TYPE_CHECKING:
    from harness.results.history.store import Run


def print_runs(rows: Sequence[dict[str, Any]], known: int) -> None:
    """Print runs with their figures, and how many there are of which these were chosen."""
    from harness.results.report.spoken import duration

    cells = [
        (row["run_id"], row["outcome"].upper(), row["host"], row["accelerator"],
         str(row["guests"]), row["label"], duration(row["pause_window_s"]),
         duration(row["overhead_s"]), duration(row["residual_s"]))
        for row in rows
    ]  # fmt: skip
    if not cells:
        click.echo("no run in the history" if known == 0 else f"none of {known} runs is that new")
        return
    headings = ("run", "", "host", "by", "guests", "label", "paused", "overhead", "residual")
    print_table(headings, cells)
    if known > len(rows):
        click.echo(f"{len(rows)} of {known} runs")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, by hand: a library that draws tables takes longer to load than the answer."""
    shown = [[printable(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(headings))]
    for row in shown:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    forget_lost_output()  # a reader of the first lines is served


def print_csv(rows: Sequence[dict[str, Any]]) -> None:
    """Print CSV with a line of headings; of nothing, nothing."""
    if rows:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        forget_lost_output()


def value(figure: str, measured: float | None) -> str:
    """Return a figure as it is shown, with its unit; nothing was measured: a dash."""
    from harness.results.history.figures import unit_of
    from harness.results.report.spoken import duration

    unit = unit_of(figure)
    return (
        duration(measured) if measured is None or unit == "s" else f"{measured:.6g} {unit}".rstrip()
    )


def short_id(run_id: str) -> str:
    """Return the end of a run's id, by which it is found too: two fit on a line."""
    return run_id.rpartition("-")[2] or run_id


def change(first: float | None, second: float | None) -> str:
    """Return by how much the second is more, in per cent of the first; "" where that is nothing."""
    if first is None or second is None or first == 0:
        return ""
    return f"{100 * (second / first - 1):+.0f} %"


def print_bars(figure: str, found: Sequence[tuple[Run, float]]) -> None:
    """Print a figure over runs as bars."""
    highest = max(abs(measured) for _, measured in found) or 1.0
    for run, measured in found:
        bar = "█" * round(40 * abs(measured) / highest)
        click.echo(f"{run.started_at:%Y-%m-%d %H:%M}  {value(figure, measured):<12}{bar}")


def draw(file: Path, figure: str, guest: str, found: Sequence[tuple[Run, float]]) -> None:
    """Write a figure over runs to ``file``, as its ending says."""
    require("reports", "a plot")
    from harness.core.records import Outcome
    from harness.results.history.figures import KINDS, unit_of
    from harness.results.report.plots import Point, Said, over_time, write

    kind = KINDS.get(figure)
    title = kind.title if kind else figure
    said = Said(
        f"{title}, {guest}" if guest else title,
        unit_of(figure),
        [run.host for run, _ in found],
        len(found),
    )
    days = [run.started_at.timestamp() / 86400 for run, _ in found]
    points = [Point(value, Outcome(run.outcome)) for run, value in found]
    write(file, over_time(days, points, said))
