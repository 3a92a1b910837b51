"""The intent log of a run: append-only JSON lines, on disk before anything is paused.

Whoever comes after a crash reads it to learn which guests *this* run paused. So an intent is
written, and both the file and its folder are fsync'd, before the pause it announces; a torn last
line (power cut, full disk) is tolerated by the reader.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import JournalError
from harness.timebase import SYSTEM_CLOCK, Clock

FILE_NAME = "journal.jsonl"


class Journal:
    """Appends entries to ``<run folder>/journal.jsonl``; a context manager.

    Raises JournalError when a durable entry cannot be written.
    """

    def __init__(self, folder: Path, run_id: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.path = folder / FILE_NAME
        self._run_id = run_id
        self._clock = clock
        self._line = 0
        self.lost: list[str] = []
        """Notes that could not be written; they never hold up a resume."""
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(self.path, flags, 0o600)
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(error) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)
        os.close(self._folder)

    def intend(self, event: str, **fields: Any) -> None:
        """Write one entry and return only when it is on the disk, name and all."""
        try:
            self._append(event, fields)
            os.fsync(self._file)
            os.fsync(self._folder)
        except OSError as error:
            raise self._refused(error) from error

    def note(self, event: str, **fields: Any) -> None:
        """Write one entry without waiting for the disk; never raises.

        For use while guests are paused: a full disk must not keep them from being resumed.
        """
        try:
            self._append(event, fields)
        except OSError as error:
            self.lost.append(f"{event}: {error.strerror}")

    def _append(self, event: str, fields: Mapping[str, Any]) -> None:
        self._line += 1
        entry = {
            "line": self._line,
            "event": event,
            "run_id": self._run_id,
            "pid": os.getpid(),
            "boottime_ns": self._clock.boottime_ns(),
            "realtime_ns": self._clock.realtime_ns(),
            **fields,
        }
        data = (json.dumps(entry, default=str) + "\n").encode()
        written = os.write(self._file, data)
        if written != len(data):
            raise OSError(28, os.strerror(28))  # a short write to a file means: disk full

    def _refused(self, error: OSError) -> JournalError:
        return JournalError(
            f"cannot write {self.path}: {error.strerror}; nothing will be paused without a journal",
            hint="free some space, or point HARNESS_STATE_DIR at a folder you may write",
        )


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a journal, oldest first; a torn last line is left out.

    Raises JournalError if the file cannot be read or is damaged before its last line.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise JournalError(f"{path}: line {number} is damaged: {error.msg}") from error
    return entries
