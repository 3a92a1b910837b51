"""What the server writes down: bounded, because guests decide how much there is to write.

``events-access.log`` says which guest asked for what. Warnings and errors go to
``events-errors.log``; the first of them also to standard error, which nothing rotates.
"""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

ACCESS_LOG = "events-access.log"
_ACCESS_BYTES = 8 * 1024 * 1024
_ERRORS_LOG = "events-errors.log"
_ERRORS_BYTES = 1024 * 1024
#: So many warnings and errors reach standard error.
_FIRST = 20


def prepare_logs(state_dir: Path) -> None:
    """Have everything that is logged in this process from now on written in bounded space."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what is no HTTP is no news
    access = logging.getLogger("harness.events.access")
    access.setLevel(logging.INFO)
    access.propagate = False
    access.addHandler(_file(state_dir / ACCESS_LOG, _ACCESS_BYTES, "%(asctime)s %(message)s"))
    root, errors = logging.getLogger(), state_dir / _ERRORS_LOG
    for handler in root.handlers:
        handler.addFilter(_First(errors))
    kept = _file(errors, _ERRORS_BYTES, "%(asctime)s %(name)s: %(message)s")
    kept.setLevel(logging.WARNING)
    root.addHandler(kept)


class BoundedFile(RotatingFileHandler):
    """At most two files of ``maxBytes`` and a record each."""

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802  logging's name
        """Return True if what is open is full; looking at the path costs a third of an answer."""
        return self.stream is not None and self.stream.tell() > self.maxBytes

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Drop what cannot be written: logging would write a traceback a record to stderr."""


def _file(path: Path, most_bytes: int, form: str) -> BoundedFile:
    handler = BoundedFile(path, maxBytes=most_bytes, backupCount=1, delay=True)
    handler.setFormatter(logging.Formatter(form))
    return handler


class _First(logging.Filter):
    """Lets the first warnings and errors through, and one word on where the others are."""

    def __init__(self, elsewhere: Path) -> None:
        super().__init__()
        self._left = _FIRST
        self._elsewhere = elsewhere

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if ``record`` is to be written."""
        if record.levelno < logging.WARNING:
            return True  # only with -v, which is a person's choice
        self._left -= 1
        if self._left == 0:
            record.msg, record.args = f"{record.getMessage()}; more are in {self._elsewhere}", None
        return self._left >= 0
