"""Tidy results: one row a guest and run, one column a variable; CSV, Parquet, and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.experiment.conduct import Done, Experiment
from harness.core.errors import MissingCapability, UsageError
from harness.core.extras import how_to_install, require
from harness.core.files import write_atomically
from harness.core.records import GuestRecord, Outcome, RunRecord

if TYPE_CHECKING:
    from harness.results.report.plots import Point

Row = dict[str, Any]


@dataclass(frozen=True)
class _Question:
    """A picture: how runs are grouped, and which variable (in seconds) is shown."""

    name: str
    title: str
    by: str
    variable: str
    once_a_run: bool = False
    """Whether it is one of an update domain, not of a guest."""


_QUESTIONS = (
    _Question("residual-by-method", "Clock offset in the end, by method", "method", "residual_s"),
    _Question(
        "overhead-by-guests",
        "Overhead of the pause window, by guests",
        "guests",
        "overhead_s",
        True,
    ),
    _Question(
        "stale-by-method",
        "Resume to corrected clock, by method",
        "method",
        "stale_clock_window_s",
    ),
    _Question("residual-by-pause", "Clock offset in the end, by pause", "pause", "residual_s"),
)


def rows(experiment: Experiment) -> list[Row]:
    """Every guest of every run that is done; a run whose record is gone is left out."""
    found: list[Row] = []
    for done in sorted(experiment.done, key=lambda one: one.cell.number):
        try:
            record = experiment.run_folder(done).record()
        except UsageError:
            continue
        found += _of_run(done, record)
    return found


def _of_run(done: Done, record: RunRecord) -> Iterable[Row]:
    domains = {name: domain for domain in record.update_domains for name in domain.guests}
    for guest in record.guests:
        domain = domains.get(guest.name)
        yield {
            "cell": done.cell.number,
            "repeat": done.cell.repeat,
            "run_id": record.run_id,
            "started_at": record.started_at.isoformat(),
            "host": record.host.hostname,
            **{key: _plain(value) for key, value in done.cell.settings.items()},
            "guests": len(record.guests),
            "guest": guest.name,
            "update_domain": domain.name if domain else None,
            "accelerator": guest.accelerator,
            "outcome": guest.outcome.value,
            "run_outcome": record.outcome.value,
            **_measured(guest),
            "overhead_s": domain.overhead_s if domain else None,
            "update_s": domain.update_s if domain else None,
        }


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _measured(guest: GuestRecord) -> Row:
    clock = guest.clock
    end = clock.after_correction or clock.after_resume
    lag_s = None
    if clock.before is not None and clock.after_resume is not None:
        lag_s = clock.after_resume.offset_s - clock.before.offset_s
    return {
        "method": clock.method or "none",
        "pause_window_s": guest.pause_window_s,
        "pause_inner_s": guest.pause_inner_s,
        "stale_clock_window_s": guest.stale_clock_window_s,
        "offset_s": end.offset_s if end else None,
        "residual_s": abs(end.offset_s) if end else None,
        "uncertainty_s": end.uncertainty_s if end else None,
        "lag_s": lag_s,
        "monotonic_deficit_s": clock.monotonic_deficit_s,
    }


def write(experiment: Experiment) -> tuple[list[Path], list[str]]:
    """Write CSV, Parquet and pictures into the experiment's folder; the files, and warnings."""
    found = rows(experiment)
    if not found:
        return [], ["no run is done yet, so there are no results"]
    files, warnings = [experiment.folder / "results.csv"], []
    write_atomically(files[0], _csv(found))
    try:
        files.append(_parquet(experiment.folder / "results.parquet", found))
    except ImportError:
        warnings.append(f"no results.parquet: {how_to_install('parquet')}")
    try:
        files += _pictures(experiment.folder, found)
    except MissingCapability as error:
        warnings.append(f"no pictures: {error}")
    return files, warnings


def _csv(found: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def _parquet(file: Path, found: Sequence[Row]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = file.with_name(f".{file.name}.new")
    # A name that is no Unicode is none of Parquet's either.
    clean = [{key: _unicode(value) for key, value in row.items()} for row in found]
    pq.write_table(pa.Table.from_pylist(clean), temporary)
    temporary.replace(file)
    return file


def _unicode(value: Any) -> Any:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _pictures(folder: Path, found: Sequence[Row]) -> list[Path]:
    """Draw each question that has more than one answer: one group alone compares nothing."""
    require("reports", "a picture of the results")
    from harness.results.report.plots import Said, by_group, write

    files = []
    hosts = [row["host"] for row in found]
    for asked in _QUESTIONS:
        file = folder / f"{asked.name}.svg"
        groups = _grouped(found, asked)
        if len(groups) < 2:
            file.unlink(missing_ok=True)
            continue
        said = Said(asked.title, "s", hosts, len({row["run_id"] for row in found}))
        write(file, by_group(groups, said))
        files.append(file)
    return files


def _grouped(found: Sequence[Row], asked: _Question) -> list[tuple[str, list[Point]]]:
    from harness.results.report.plots import Point

    groups: dict[Any, list[Point]] = {}
    seen: set[tuple[str, Any]] = set()
    for row in found:
        unit = (row["run_id"], row["update_domain"])
        if row[asked.variable] is None or (asked.once_a_run and unit in seen):
            continue
        seen.add(unit)
        outcome = row["run_outcome"] if asked.once_a_run else row["outcome"]
        point = Point(row[asked.variable], Outcome(outcome))
        groups.setdefault(_group(row, asked.by), []).append(point)
    return [(f"{_GROUP_WORDS[asked.by]} {key}", groups[key]) for key in sorted(groups)]


_GROUP_WORDS: Mapping[str, str] = {"method": "method", "guests": "guests:", "pause": "pause, s:"}


def _group(row: Row, by: str) -> Any:
    if by == "pause":
        return round(row["pause_window_s"] or 0.0)
    return row[by]
