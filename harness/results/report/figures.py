"""Pictures of a run for its page, as inline SVG that is coloured by the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.results.report.drawing import VARIABLES, rows, svg
from harness.results.report.story import DomainStory, Stretch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.core.records import GuestRecord

STRETCH_VARIABLES = {
    Stretch.PAUSING: "--pausing",
    Stretch.PAUSED: "--paused",
    Stretch.RESUMING: "--resuming",
    Stretch.STALE: "--stale",
    Stretch.WRONG: "--fail",
    Stretch.CORRECTED: "--corrected",
    Stretch.RUNNING: "--running",
}
#: A stretch of milliseconds is drawn at least this wide (of the whole), so that it can be seen.
_NARROWEST = 0.008
#: Within this an offset is drawn to scale, beyond it by decades.
_LINEAR_S = 0.001


def timeline(story: DomainStory, budget_s: float, salt: str) -> str:
    """One row a guest: pausing, paused, resuming, stale clock, corrected; the budget as a line."""
    figure, axes = rows([guest.name for guest in story.guests], salt)
    narrowest_s = story.end_s * _NARROWEST
    for row, guest in enumerate(story.guests):
        drawn_until_s = 0.0
        for span in guest.spans:
            start_s = max(span.start_s, drawn_until_s)
            drawn_until_s = max(span.end_s, start_s + narrowest_s)
            axes.broken_barh(
                [(start_s, drawn_until_s - start_s)],
                (row - 0.18, 0.52),
                facecolors=VARIABLES[STRETCH_VARIABLES[span.what]],
            )
    axes.axvline(budget_s, color=VARIABLES["--budget"], linewidth=1.4, linestyle=(0, (4, 2)))
    axes.set_xlim(0, story.end_s)
    axes.set_xlabel(f"seconds; dashed: the budget of {budget_s:g} s")
    return svg(figure, salt)


def offsets(guests: Sequence[GuestRecord], salt: str) -> str:
    """One row a guest: its clock before, after the resume and in the end, with error bars."""
    figure, axes = rows([guest.name for guest in guests], salt)
    for row, guest in enumerate(guests):
        for allowed in _allowed(guest):
            axes.broken_barh(
                [(-allowed, 2 * allowed)],
                (row - 0.18, 0.52),
                facecolors=VARIABLES["--allowed"],
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
            color=VARIABLES[variable],
            marker=marker,
            markersize=4.5,
            capsize=3,
            elinewidth=1.4,
        )
    _decades(axes, guests)
    return svg(figure, salt)


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
    axes.axvline(0, color=VARIABLES["--faint"], linewidth=0.8)
    axes.set_xlabel("slow  ←  guest's clock  →  fast")


_SPARSE_MS = {1, 100, 10_000, 1_000_000, 100_000_000}


def _spoken(seconds: float) -> str:
    if seconds == 0:
        return "0"
    sign = "−" if seconds < 0 else ""
    size = abs(seconds)
    return f"{sign}{size * 1000:.0f} ms" if size < 1 else f"{sign}{size:.0f} s"
