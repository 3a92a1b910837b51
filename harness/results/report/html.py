"""``report.html``: a run as one page that needs nothing but itself.

Everything from outside (names, outputs, messages) is escaped by the template engine, after control
characters have been made visible. The page forbids itself every request by a content policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from harness.core.errors import JournalError
from harness.core.file_names import named_by
from harness.core.records import GuestRecord, Outcome, RunRecord
from harness.core.timebase import NS_PER_S
from harness.results import journal
from harness.results.folder import RunFolder
from harness.results.report import figures, words
from harness.results.report.meanings import EXPECTED, meaning
from harness.results.report.story import Stretch, tell

FILE_NAME = "report.html"
#: Of an output that is longer, the beginning and the end are shown.
_SHOWN_BYTES = 48 * 1024
_SHOWN_ENTRIES = 3000
#: Above this a page's pictures are drawn in several.
_ROWS_A_PICTURE = 50
#: What every entry of a journal has, and the table shows elsewhere or not at all.
_COMMON_KEYS = {"event", "version", "run_id", "pid", "boottime_ns", "realtime_ns"}


@dataclass(frozen=True)
class Output:
    """What a command printed, as far as it is shown."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One entry of the journal."""

    at_s: float
    event: str
    rest: str


def render(folder: RunFolder) -> str:
    """The page for the run in ``folder``. Raises UsageError if there is no readable record."""
    record = folder.record()
    try:
        reading = journal.read(folder.path / journal.FILE_NAME)
    except JournalError as error:
        reading = journal.Reading(notices=(str(error),))
    return page(
        record,
        reading,
        outputs=list(_outputs(folder.path, [one.name for one in record.update_domains])),
        kernel_logs=dict(_kernel_logs(folder.path, [guest.name for guest in record.guests])),
    )


def page(
    record: RunRecord,
    reading: journal.Reading,
    *,
    outputs: Sequence[Output] = (),
    kernel_logs: Mapping[str, Output] | None = None,
) -> str:
    """The page for a record and what else is known of the run."""
    lines = list(_lines(reading))
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=record,
            took_s=_took_s(record),
            legend=[(str(what), figures.STRETCH_VARIABLES[what]) for what in Stretch],
            timelines=list(_timelines(record, journal.fold(reading))),
            offsets=_offset_pictures(record.guests),
            judged=list(dict.fromkeys(c.name for g in record.guests for c in g.checks)),
            failed=_failed(record),
            troubled=[g for g in record.guests if g.outcome not in (Outcome.PASS, Outcome.SKIP)],
            outputs=outputs,
            kernel_logs=kernel_logs or {},
            journal=lines[:_SHOWN_ENTRIES],
            journal_length=len(lines),
            damage="; ".join(f"journal: {notice}" for notice in reading.notices),
        )
    )


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Return what renders the templates: everything from outside is escaped and made visible."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.results.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        duration=words.duration,
        offset=words.offset,
        measured=words.measured,
        quantity=words.quantity,
        at_end=_at_end,
        longest=_longest,
        meaning=meaning,
        anchor=_anchor,
    )
    made.globals["expected"] = EXPECTED
    return made


def _visible(value: Any) -> Any:
    """Plain strings lose their control characters; what we drew ourselves is left alone."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return words.printable(value)
    return value


def _longest(durations_s: Iterable[float | None]) -> float | None:
    return max((one for one in durations_s if one is not None), default=None)


def _anchor(name: str) -> str:
    """Return a name as part of an id, which may have no blank."""
    return quote(name, safe="")


def _failed(record: RunRecord) -> bool:
    """Return True if something was not as it should be, which is more than a warning."""
    troubled = [g for g in record.guests if g.outcome not in (Outcome.PASS, Outcome.SKIP)]
    return bool(record.problems or troubled or any(d.problems for d in record.update_domains))


def _at_end(guest: GuestRecord) -> Any:
    return guest.clock.after_correction or guest.clock.after_resume


def _took_s(record: RunRecord) -> float | None:
    if record.finished_at is None:
        return None
    return (record.finished_at - record.started_at).total_seconds()


def _lines(reading: journal.Reading) -> Iterable[Line]:
    for line in reading.lines:
        at_s = (line.boottime_ns - reading.lines[0].boottime_ns) / NS_PER_S
        rest = [
            f"{key} {_said(value)}" for key, value in line.data.items() if key not in _COMMON_KEYS
        ]
        yield Line(at_s, line.event, "; ".join(rest))


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_said(one) for one in value)
    if isinstance(value, dict):
        return str(value["name"]) if "name" in value else ", ".join(map(str, value.items()))
    return str(value)


def _timelines(record: RunRecord, history: journal.History) -> Iterable[tuple[str, Markup]]:
    number = 0
    for story in tell(record, history):
        for start in range(0, len(story.guests), _ROWS_A_PICTURE):
            part = replace(story, guests=story.guests[start : start + _ROWS_A_PICTURE])
            yield story.name, Markup(figures.timeline(part, record.budget_s, f"timeline{number}"))
            number += 1


def _offset_pictures(guests: Sequence[GuestRecord]) -> list[Markup]:
    measured = [g for g in guests if g.clock.before or g.clock.after_resume]
    return [
        Markup(figures.offsets(measured[start : start + _ROWS_A_PICTURE], f"offsets{start}"))
        for start in range(0, len(measured), _ROWS_A_PICTURE)
    ]


def _outputs(folder: Path, domains: Sequence[str]) -> Iterable[Output]:
    """What the update's commands printed: ``update-<update domain>.log`` and its like."""
    for stage in ("update", "verify", "rollback"):
        for file in sorted(folder.glob(f"{stage}-*.log")):
            domain = named_by(file.stem.removeprefix(f"{stage}-"), domains)
            yield _output(f"{stage} of update domain {domain}", file)


def _kernel_logs(folder: Path, guests: Sequence[str]) -> Iterable[tuple[str, Output]]:
    for file in sorted((folder / "guests").glob("*/kernel.log")):
        output = _output("new kernel messages", file)
        if any(line.strip() for line in output.lines):
            yield named_by(file.parent.name, guests), output


def _output(title: str, file: Path) -> Output:
    try:
        with open(file, "rb") as source:
            head = source.read(_SHOWN_BYTES)
            size = source.seek(0, 2)
            tail = b""
            if size > len(head):
                source.seek(max(len(head), size - _SHOWN_BYTES))
                tail = source.read(_SHOWN_BYTES)
    except OSError as error:
        return Output(title, (f"cannot be read: {error.strerror}",))
    lines = head.decode(errors="replace").splitlines()
    if tail:
        left_out = size - len(head) - len(tail)
        lines += [f"[… {left_out} bytes are not shown; they are in {file.name} …]"]
        lines += tail.decode(errors="replace").splitlines()
    return Output(title, tuple(lines))
