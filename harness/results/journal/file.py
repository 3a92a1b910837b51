"""The intent log of a run: append-only JSON lines, on disk before anything is paused.

A program that comes after a crash reads it to learn which guests *this* run paused. So an intent is
written, and both the file and its folder are fsync'd, before the pause it announces. A line that
was torn (power cut, full disk) is tolerated if it is the last one, or if the process that wrote on
after it said so by a line of event ``torn``.

The process that carries out the run holds a lock on the file for as long as it lives; the kernel
releases it, so ``in_use`` tells a run that goes on from one that is dead. Its guardian, and later
``harness recover``, write into the same file.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from harness.core.errors import JournalError
from harness.core.file_locks import hold, is_held
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.results.journal.entries import Entry, Recovered, RunFinished, Torn
from harness.results.journal.parse import Reading, parse, written

FILE_NAME = "journal.jsonl"
_CLOSED = -1
#: A line has some 300 bytes, and a run writes some ten lines a guest.
_LARGEST_BYTES = 64 << 20
#: Some of its lines, of which one is likely to say that the run has ended.
_LAST_BYTES = 2048


class Journal:
    """Appends entries to ``<run folder>/journal.jsonl``; a context manager.

    Raises JournalError when a durable entry cannot be written, or when another process carries
    out this run. Safe to use from several threads.
    """

    def __init__(
        self, folder: Path, run_id: str, clock: Clock = SYSTEM_CLOCK, *, joining: bool = False
    ) -> None:
        """``joining``: write beside the process that carries out the run, without its lock."""
        self.path = folder / FILE_NAME
        self.run_id = run_id
        self._clock = clock
        self._writing = threading.Lock()
        self.lost: list[str] = []
        """Notes that could not be written; they never hold up a resume."""
        try:
            self._file = os.open(
                self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if not joining:
                hold(self._file, clock)
            self._torn = _ends_torn(self._file)
        except BlockingIOError as error:
            raise JournalError(f"{self.path}: another process carries out this run") from error
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
        # A thread that was given up may still want to write. By then the numbers of our descriptors
        # may be another guest's, so it gets none.
        with self._writing:
            file, folder, self._file, self._folder = self._file, self._folder, _CLOSED, _CLOSED
        os.close(file)
        os.close(folder)

    def intend(self, entry: Entry) -> None:
        """Write one entry and return only when it is on the disk, name and all."""
        try:
            self._append(entry)
            os.fsync(self._file)
            os.fsync(self._folder)
        except OSError as error:
            raise self._refused(error) from error

    def note(self, entry: Entry) -> None:
        """Write one entry without waiting for the disk; never raises.

        For use while guests are paused: a full disk must not keep them from being resumed.
        """
        try:
            self._append(entry)
        except Exception as error:  # noqa: BLE001  nothing may come before a resume
            self.lost.append(f"{entry.event}: {getattr(error, 'strerror', None) or repr(error)}")

    def read(self) -> Reading:
        """Return what is in the file now. Raises JournalError if it cannot be read.

        Reads by the open descriptor, so the folder may have been renamed, replaced or deleted.
        """
        try:
            return parse(os.pread(self._file, os.fstat(self._file).st_size, 0))
        except OSError as error:
            raise JournalError(f"cannot read {self.path}: {error.strerror}") from error

    def _append(self, entry: Entry) -> None:
        with self._writing:
            if self._torn:
                self._write(b"\n" + self._line(Torn()))
            self._write(self._line(entry))

    def _line(self, entry: Entry) -> bytes:
        stamped = {
            **written(entry),
            "run_id": self.run_id,
            "pid": os.getpid(),
            "boottime_ns": self._clock.boottime_ns(),
            "realtime_ns": self._clock.realtime_ns(),
        }
        return (json.dumps(stamped) + "\n").encode()

    def _write(self, data: bytes) -> None:
        written = os.write(self._file, data)
        self._torn = written != len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # what a short write means

    def _refused(self, error: OSError) -> JournalError:
        return JournalError(
            f"cannot write {self.path}: {error.strerror}; nothing will be paused without a journal",
            hint="free some space, or point HARNESS_STATE_DIR at a folder you may write",
        )


def _ends_torn(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def in_use(path: Path) -> bool:
    """Whether the process that carries out this run lives. Raises JournalError."""
    try:
        with _opened(path) as file:
            return is_held(file.fileno())
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error


def read(path: Path) -> Reading:
    """Read a journal. Raises JournalError if the file cannot be read, and for no content."""
    try:
        with _opened(path) as file:
            return parse(file.read())
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error


def says_ended(path: Path) -> bool:
    """Return True if the run has ended by its last lines; they are all that is read of it.

    False tells nothing: the rest of the journal may say that it has. Raises JournalError.
    """
    try:
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            last = os.pread(file.fileno(), _LAST_BYTES, max(0, size - _LAST_BYTES))
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    lines = last.split(b"\n")[1:]  # the first may be half a line
    found = parse(b"\n".join(lines)).entries
    return any(isinstance(one, RunFinished | Recovered) for one in found)


def _opened(path: Path) -> BinaryIO:
    """Open a journal, of another user perhaps: what is no file, or too large, is none.

    A FIFO would have its reader wait without end. Raises OSError.
    """
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST_BYTES:
        return file
    file.close()
    if stat.S_ISREG(status.st_mode):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    raise OSError(errno.EINVAL, "it is no file")
