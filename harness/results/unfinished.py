"""Runs that died before their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import JournalError, UsageError
from harness.results.folder import RunFolder, all_runs
from harness.results.journal import FILE_NAME, fold, in_use, read


def dead_runs(state_dir: Path) -> Iterator[RunFolder]:
    """Runs whose process is gone before their end; newest first.

    One whose journal cannot be read is among them unless its record says that it ended well: it
    may have left guests paused, and a person has to look.
    """
    for folder in all_runs(state_dir):
        journal = folder.path / FILE_NAME
        try:
            if not journal.exists() or in_use(journal):
                continue
            ended = fold(read(journal)).ended
        except JournalError:
            ended = _ended_well(folder)
        if not ended:
            yield folder


def _ended_well(folder: RunFolder) -> bool:
    try:
        record = folder.record()
    except UsageError:
        return False
    return record.finished_at is not None and not any(g.still_paused for g in record.guests)
