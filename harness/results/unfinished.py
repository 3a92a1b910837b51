"""Runs that died before their end: found by their journals, whatever else is there of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import JournalError, UsageError
from harness.core.identity import boot_id
from harness.results.folder import RECORD, RunFolder
from harness.results.journal import FILE_NAME, History, fold, in_use, read, says_ended


@dataclass(frozen=True)
class Searched:
    """A state folder that was searched for dead runs."""

    state_dir: Path
    dead: tuple[RunFolder, ...] = ()
    """Newest first."""
    refused: str | None = None
    """Why it could not be searched; None if it was."""
    there: bool = True
    """There is such a folder, as far as is known."""


def dead_runs(state_dir: Path) -> Iterator[RunFolder]:
    """Yield the runs whose process is gone before their end; newest first.

    One whose journal cannot be read is among them unless its record says that it ended well: it
    may have left guests paused, and a person has to look. Nothing is yielded of a folder that
    cannot be read.
    """
    yield from search(state_dir).dead


def search(state_dir: Path) -> Searched:
    """Search one state folder for dead runs; one without runs has none. Never raises."""
    runs = state_dir / "runs"
    try:
        names = sorted(os.listdir(runs), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return Searched(state_dir, there=state_dir.is_dir())
    except OSError as error:
        return Searched(state_dir, refused=error.strerror or str(error))
    return Searched(state_dir, tuple(_dead(runs / name for name in names)))


def _dead(paths: Iterator[Path]) -> Iterator[RunFolder]:
    for path in paths:
        journal = path / FILE_NAME
        folder = RunFolder(path)
        try:
            if not os.path.lexists(journal) or says_ended(journal) or in_use(journal):
                continue
            ended = fold(read(journal)).ended
        except JournalError:
            ended = _ended_well(folder)
        if not ended:
            yield folder


def is_of_an_earlier_boot(history: History) -> bool:
    """Return True if the run left its kernel, and that was not the one of this boot."""
    started = history.started
    return history.left is not None and started is not None and started.boot_id != boot_id()


def is_handed_over(dead: RunFolder) -> bool:
    """Return True if a dead run's kernel was left, and this boot of the host is to finish it."""
    try:
        return is_of_an_earlier_boot(fold(read(dead.path / FILE_NAME)))
    except JournalError:
        return False


def how_it_ended(dead: RunFolder) -> str:
    """Return, for after a dead run's id, how it ended and what finishes it."""
    if is_handed_over(dead):
        return (
            "was handed over to another kernel, where harness-complete.service finishes it; "
            "if that has failed: harness recover"
        )
    return "ended unexpectedly; finish it with: harness recover"


def journals_that_know(uuid: str, state_dirs: Sequence[Path]) -> Iterator[RunFolder]:
    """Yield the runs, dead or not, whose journal says that they were to pause this guest."""
    for state_dir in state_dirs:
        for journal in sorted((state_dir / "runs").glob(f"*/{FILE_NAME}"), reverse=True):
            try:
                known = fold(read(journal)).guests
            except JournalError:
                continue
            if uuid in known:
                yield RunFolder(journal.parent)


def _ended_well(folder: RunFolder) -> bool:
    if not (folder.path / RECORD).is_file():  # nor a FIFO, which would have us wait
        return False
    try:
        record = folder.record()
    except UsageError:
        return False
    return record.finished_at is not None and not any(g.still_paused for g in record.guests)
