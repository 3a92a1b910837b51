"""What came of an experiment, as a person reads it at its end: a row for each cell of the grid.

Repeats of a cell are one row: median, and from the smallest to the largest where they differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING

from harness.core.errors import UsageError
from harness.results.report.spoken import duration

if TYPE_CHECKING:
    from harness.cli.experiment.conduct import Experiment
    from harness.core.records import RunRecord

HEADINGS = ("cell", "runs", "outcomes", "paused", "overhead", "clock offset")


def summary(experiment: Experiment) -> list[tuple[str, ...]]:
    """Return a row of ``HEADINGS`` for each cell of which a run is done, in the order of cells."""
    runs: dict[str, list[RunRecord]] = {}
    for done in sorted(experiment.done, key=lambda one: one.cell.number):
        try:
            record = experiment.run_folder(done).record()
        except UsageError:
            continue  # its folder was removed
        runs.setdefault(done.cell.described(), []).append(record)
    return [(cell, *_row(records)) for cell, records in sorted(runs.items())]


def _row(records: Sequence[RunRecord]) -> tuple[str, ...]:
    outcomes = Counter(record.outcome.value.upper() for record in records)
    guests = [guest for record in records for guest in record.guests]
    domains = [domain for record in records for domain in record.update_domains]
    ends = [guest.clock.after_correction or guest.clock.after_resume for guest in guests]
    return (
        str(len(records)),
        ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()),
        _spread(guest.pause_window_s for guest in guests),
        _spread(domain.overhead_s for domain in domains),
        _spread(abs(end.offset_s) for end in ends if end is not None),
    )


def _spread(measured: Iterable[float | None]) -> str:
    known = sorted(one for one in measured if one is not None)
    if not known:
        return "–"
    middle = median(known)
    if known[0] == known[-1]:
        return duration(middle)
    least, most = (duration(one, like=middle).split()[0] for one in (known[0], known[-1]))
    return f"{duration(middle)} ({least} to {most})"
