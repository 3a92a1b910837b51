"""Runs that go on, and what they and dead runs hold, as their journals say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import JournalError
from harness.core.timebase import NS_PER_S
from harness.results.folder import RunFolder
from harness.results.journal import FILE_NAME, fold, in_use, read
from harness.results.journal.custody import GuestCustody, History


@dataclass(frozen=True)
class HeldGuest:
    """A guest that a run has paused, or may have, and must bring back."""

    name: str
    uuid: str
    custody: str
    since_ns: int | None
    """The host's CLOCK_BOOTTIME at its pause; None: the pause is not confirmed."""
    until_ns: int | None
    """By when its budget has it resumed, CLOCK_BOOTTIME; None: not known."""


@dataclass(frozen=True)
class RunNow:
    """What a run's journal tells of it at this moment."""

    folder: RunFolder
    started_ns: int
    """CLOCK_REALTIME of its first entry; 0: there is none."""
    pid: int
    """0: it has written nothing yet."""
    user: str
    update: str
    guests: tuple[str, ...]
    domain: str
    """The update domain that is being done."""
    held: tuple[HeldGuest, ...]


def runs_in_progress(state_dir: Path) -> Iterator[RunNow]:
    """Yield the runs of a state folder whose process lives, newest first. Never raises."""
    runs = state_dir / "runs"
    try:
        names = sorted(os.listdir(runs), reverse=True)
    except OSError:
        return
    for name in names:
        journal = runs / name / FILE_NAME
        try:
            if not os.path.lexists(journal) or not in_use(journal):
                continue
            now = look(RunFolder(runs / name))
        except JournalError:
            continue
        if now is not None:
            yield now


def goes_on(folder: RunFolder) -> bool:
    """Return True if the process that carries out this run lives, as far as can be seen."""
    journal = folder.path / FILE_NAME
    try:
        return os.path.lexists(journal) and in_use(journal)
    except JournalError:
        return False


def look(folder: RunFolder) -> RunNow | None:
    """Return what the journal of a run tells; None where it has ended. Raises JournalError."""
    reading = read(folder.path / FILE_NAME)
    history = fold(reading)
    if history.ended:
        return None
    first = reading.lines[0] if reading.lines else None
    started = history.started
    return RunNow(
        folder,
        first.realtime_ns if first else 0,
        first.pid if first else 0,
        started.user if started else "",
        started.update if started else "",
        started.guests if started else (),
        history.domain,
        tuple(_held(folder, history)),
    )


def _held(folder: RunFolder, history: History) -> Iterator[HeldGuest]:
    held = [guest for guest in history.guests.values() if guest.held]
    if not held:
        return
    config, problems = folder.config_as_understood()
    budget_s = None if problems else config.budget_s
    for guest in held:
        yield HeldGuest(
            guest.member.name,
            guest.member.uuid,
            guest.custody.value,
            guest.paused_ns,
            _until(guest, budget_s),
        )


def _until(guest: GuestCustody, budget_s: float | None) -> int | None:
    if guest.paused_ns is None or budget_s is None:
        return None
    return guest.paused_ns + round(budget_s * NS_PER_S)
