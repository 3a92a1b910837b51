"""The content of a notification: one notice, as JSON for programs and as text for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.core.errors import GuestStranded
from harness.core.pasteable import virsh
from harness.core.records import GuestRecord, Outcome, RunRecord
from harness.results.report.spoken import duration, printable

VERSION = 1
RUN_FINISHED, NIGHT_FINISHED, GUESTS_STRANDED = "run finished", "night finished", "guests stranded"


@dataclass(frozen=True)
class GuestNotice:
    """One guest in a notice."""

    name: str
    outcome: str
    still_paused: bool = False
    resume_hint: str | None = None
    """A command that resumes it, where it is still paused."""


@dataclass(frozen=True)
class Notice:
    """Something that people should know."""

    event: str
    host: str
    summary: str
    """One line."""
    outcome: str
    exit_code: int
    run_id: str | None = None
    folder: str | None = None
    guests: tuple[GuestNotice, ...] = ()
    problems: tuple[str, ...] = ()
    version: int = field(default=VERSION)

    @property
    def good(self) -> bool:
        """Return True if nothing is wrong."""
        return self.exit_code == 0

    def as_json(self) -> str:
        """Return the notice for programs."""
        return json.dumps(asdict(self), ensure_ascii=True)

    def as_text(self) -> str:
        """Return the notice for people: the summary, what is paused and how to resume it."""
        lines = [self.summary, ""] if self.guests else [self.summary]
        for guest in self.guests:
            lines.append(f"{guest.name}: {guest.outcome.upper()}")
            if guest.still_paused:
                lines.append(f"  STILL PAUSED; resume it: {guest.resume_hint or 'harness recover'}")
        lines += ["", *self.problems] if self.problems else []
        lines += ["", f"run {self.run_id} in {self.folder}"] if self.run_id else []
        return "\n".join(printable(line) for line in lines) + "\n"


def _way_on(guest: GuestRecord) -> str | None:
    if not guest.still_paused:
        return None
    return guest.resume_hint or virsh("", "resume", guest.uuid)


def of_run(record: RunRecord, folder: Path, error: str | None = None) -> Notice:
    """Return what is sent of a run, at once if a guest is still paused.

    ``error``: what ended it early, if anything did.
    """
    stranded = [guest.name for guest in record.guests if guest.still_paused]
    guests = tuple(
        GuestNotice(one.name, one.outcome.value, one.still_paused, _way_on(one))
        for one in record.guests
    )
    problems = [*record.problems, *(error and [error] or [])]
    for guest in record.guests:
        named = f"{guest.name}: "
        problems += [named + problem.removeprefix(named) for problem in guest.problems]
    return Notice(
        GUESTS_STRANDED if stranded else RUN_FINISHED,
        record.host.hostname,
        _summary(record, stranded),
        record.outcome.value,
        record.exit_code,
        record.run_id,
        str(folder),
        guests,
        tuple(dict.fromkeys(problems)),
    )


def of_dead_run(
    host: str, held: Sequence[tuple[str, str]], folder: Path, why: Sequence[str]
) -> Notice:
    """Return what is sent of a run that died while it held guests.

    Args:
        host: This machine's name.
        held: The guests' names, each with a command that resumes it.
        folder: The run's.
        why: What is known of why they are paused.
    """
    names = [name for name, _ in held]
    return Notice(
        GUESTS_STRANDED,
        host,
        printable(f"STILL PAUSED on {host}: {', '.join(names)}"),
        Outcome.ERROR.value,
        GuestStranded.exit_code,
        folder.name,
        str(folder),
        tuple(
            GuestNotice(name, Outcome.ERROR.value, still_paused=True, resume_hint=hint)
            for name, hint in held
        ),
        tuple(why),
    )


def of_night(
    host: str, summary: str, exit_code: int, problems: Sequence[str], runs: Sequence[RunRecord]
) -> Notice:
    """Return what is sent of a night: its line, and the guests of its last run."""
    guests = runs[-1].guests if runs else ()
    return Notice(
        NIGHT_FINISHED,
        host,
        summary,
        Outcome.worst(run.outcome for run in runs).value if runs else Outcome.ERROR.value,
        exit_code,
        guests=tuple(GuestNotice(g.name, g.outcome.value, g.still_paused) for g in guests),
        problems=tuple(problems),
    )


def _summary(record: RunRecord, stranded: Sequence[str]) -> str:
    if stranded:
        return printable(f"STILL PAUSED on {record.host.hostname}: {', '.join(stranded)}")
    windows = [one.pause_window_s for one in record.update_domains]
    longest = max((one for one in windows if one is not None), default=None)
    good = sum(guest.outcome is Outcome.PASS for guest in record.guests)
    said = f"{good} of {len(record.guests)} guests good" if record.guests else "no guest was judged"
    if longest is not None:
        said += f", longest pause {duration(longest)}"
    return printable(f"harness {record.outcome.value.upper()} on {record.host.hostname}: {said}")
