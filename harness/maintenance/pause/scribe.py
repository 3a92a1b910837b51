"""The guardian's pen: notes never hold a resume up, not even on a file system that hangs."""

from __future__ import annotations

import threading
from functools import partial
from queue import SimpleQueue

from harness.core.fanout import fan_out
from harness.core.timebase import Deadline
from harness.results.journal import Entry, Journal, Reading

#: A page cache answers in microseconds; a file system that is frozen or gone does not answer.
_READ_S = 1.0


class Scribe:
    """Reads and writes a journal in other threads; safe to use from several threads."""

    def __init__(self, journal: Journal) -> None:
        """Start the writing thread. Raises RuntimeError if no thread is to be had."""
        self._journal = journal
        self._notes: SimpleQueue[partial[None] | threading.Event] = SimpleQueue()
        threading.Thread(target=self._write, name="journal", daemon=True).start()

    def note(self, entry: Entry) -> None:
        """Have an entry written soon, in the order of the calls. Never waits for the disk."""
        self._notes.put(partial(self._journal.note, entry))

    def read(self) -> Reading:
        """Return what is in the journal. Raises JournalError, DeadlineExpired if the disk hangs."""
        answers = fan_out({"": self._journal.read}, Deadline.after(_READ_S), what="reading")
        return answers[""].get()

    def flush(self, wait_s: float) -> None:
        """Return when what was noted so far is written, or after ``wait_s`` seconds."""
        written = threading.Event()
        self._notes.put(written)
        written.wait(wait_s)

    def _write(self) -> None:
        while True:
            note = self._notes.get()
            if isinstance(note, threading.Event):
                note.set()
            else:
                note()
