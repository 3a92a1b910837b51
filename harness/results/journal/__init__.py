"""The journal of a run: typed entries, one file, and the fold that says who is held.

:mod:`entries` says what an entry is, :mod:`parse` reads them, :mod:`file` writes the file and
:mod:`custody` folds them into what follows: who is held, and what is left to do.
docs/reference/journal.md documents every entry.
"""

from harness.results.journal import entries
from harness.results.journal.custody import Custody, GuestCustody, History, ToDo, Window, fold
from harness.results.journal.entries import Entry, Life, Member
from harness.results.journal.file import FILE_NAME, Journal, in_use, read, says_ended
from harness.results.journal.parse import Line, Reading, understood

__all__ = [
    "FILE_NAME",
    "Custody",
    "Entry",
    "GuestCustody",
    "History",
    "Journal",
    "Life",
    "Line",
    "Member",
    "Reading",
    "ToDo",
    "Window",
    "entries",
    "fold",
    "in_use",
    "read",
    "says_ended",
    "understood",
]
