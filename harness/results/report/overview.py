"""Pages about several runs: a list of all, and two beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.file_names import file_name
from harness.core.files import write_atomically
from harness.core.records import GuestRecord, Outcome, RunRecord
from harness.results.folder import RunFolder, all_runs
from harness.results.report import html, words

INDEX = "index.html"


@dataclass(frozen=True, slots=True)
class Listed:
    """What the list says of a run; there may be thousands of them, so no record is kept for it."""

    started_at: datetime
    outcome: Outcome
    host: str
    guests: int
    update: str
    pauses_s: tuple[float | None, ...]
    overheads_s: tuple[float | None, ...]

    @classmethod
    def of(cls, record: RunRecord) -> Listed:
        """Return what is listed of ``record``."""
        return cls(
            record.started_at,
            record.outcome,
            record.host.hostname,
            len(record.guests),
            record.update.kind,
            tuple(one.pause_window_s for one in record.update_domains),
            tuple(one.overhead_s for one in record.update_domains),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One run in the list: what its record says, or why there is none that can be read."""

    run_id: str
    page: str | None
    """Where its report is, as seen from the list; None: it has none."""
    run: Listed | None
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """One figure of two runs, in one unit."""

    name: str
    first: str
    second: str
    change: str
    worse: bool = False


@dataclass(frozen=True)
class Part:
    """What is compared of one thing: the run, or one guest."""

    title: str
    rows: tuple[Row, ...]


def write_index(state_dir: Path) -> Path:
    """Write the page that lists every run of ``state_dir``, newest first; return where it is."""
    entries = list(_entries(state_dir))
    text = html.environment().get_template("index.html.j2").render(entries=entries)
    write_atomically(state_dir / INDEX, text)
    return state_dir / INDEX


def _entries(state_dir: Path) -> Iterable[Entry]:
    for folder in all_runs(state_dir):
        report = folder.path / html.FILE_NAME
        page = f"runs/{folder.path.name}/{html.FILE_NAME}" if report.exists() else None
        try:
            yield Entry(folder.run_id, page, Listed.of(folder.record()))
        except HarnessError as error:
            yield Entry(folder.run_id, page, None, str(error))


def write_comparison(state_dir: Path, first: RunFolder, second: RunFolder) -> Path:
    """Write the page with two runs beside each other; return where it is."""
    one, two = first.record(), second.record()
    text = (
        html.environment()
        .get_template("compare.html.j2")
        .render(first=one, second=two, parts=list(compared(one, two)))
    )
    name = file_name(f"compare-{one.run_id}-{two.run_id}")
    write_atomically(state_dir / f"{name}.html", text)
    return state_dir / f"{name}.html"


def compared(one: RunRecord, two: RunRecord) -> Iterable[Part]:
    """Yield the figures of the runs, then those of each guest that either had."""
    yield Part("Update domains", tuple(_domains(one, two)))
    sides = [{guest.name: guest for guest in run.guests} for run in (one, two)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        yield Part(name, tuple(_guest(sides[0].get(name), sides[1].get(name))))


def _domains(one: RunRecord, two: RunRecord) -> Iterable[Row]:
    yield _outcome("outcome", one.outcome, two.outcome)
    sides = [{domain.name: domain for domain in run.update_domains} for run in (one, two)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        for key, said in (("pause_window_s", "pause window"), ("overhead_s", "overhead")):
            figures = [getattr(side.get(name), key, None) for side in sides]
            yield _seconds(f"{said} of {name}", *figures)


def _guest(one: GuestRecord | None, two: GuestRecord | None) -> Iterable[Row]:
    sides = (one, two)
    yield _outcome("outcome", *(side.outcome if side else None for side in sides))
    yield _seconds("paused", *(side.pause_window_s if side else None for side in sides))
    yield _seconds("stale for", *(side.stale_clock_window_s if side else None for side in sides))
    checks = [{check.name: check for check in side.checks} if side else {} for side in sides]
    for name in dict.fromkeys([*checks[0], *checks[1]]):
        found = [side.get(name) for side in checks]
        yield _outcome(name, *(check.outcome if check else None for check in found))
        figures = [check.measured if check and check.unit == "s" else None for check in found]
        sizes = [abs(one) if isinstance(one, int | float) else None for one in figures]
        if any(size is not None for size in sizes):
            yield _seconds(f"{name}, measured", *sizes)


def _outcome(name: str, first: Outcome | None, second: Outcome | None) -> Row:
    said = [one.value.upper() if one else "–" for one in (first, second)]
    changed = "" if first == second else "changed"
    if first is None or second is None:  # such a guest or check had only one of them
        changed = changed and f"only {'first' if second is None else 'second'}"
    worse = second in (Outcome.FAIL, Outcome.ERROR) and first != second
    return Row(name, said[0], said[1], changed, worse)


def _seconds(name: str, first: float | None, second: float | None) -> Row:
    like = max((abs(one) for one in (first, second) if one is not None), default=None)
    said = [words.duration(one, like=like) for one in (first, second)]
    if first is None or second is None or not first:
        return Row(name, said[0], said[1], "")
    return Row(name, said[0], said[1], words.minus(f"{100 * (second / first - 1):+.0f} %"))


def both(folders: Sequence[RunFolder]) -> tuple[RunFolder, RunFolder]:
    """Return the two runs, the older one first: what is new is on the right."""
    first, second = sorted(folders, key=lambda folder: folder.run_id)
    return first, second
