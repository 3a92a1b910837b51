"""Standard output and error that cannot end a run: what cannot be written is dropped, and noted.

A reader that goes away, a full disk, a terminal that was closed, an encoding that lacks a
character, a pager that does not read on: while guests wait, none of them may raise or block.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from harness.core.polling import writable
from harness.core.timebase import Deadline

#: A write of at most so much to a pipe that poll() calls writable does not block (PIPE_BUF).
_PIECE_BYTES = 4096
#: Progress that is not read for so long is dropped from then on.
_PATIENCE_S = 1.0


class Output(io.RawIOBase):
    """A descriptor to write to that never raises; ``lost`` is the first error there was.

    With ``patience_s`` (None: without limit) a reader that does not read is given up then.
    """

    def __init__(self, descriptor: int, patience_s: float | None = None) -> None:
        self._descriptor = descriptor
        self._patience_s = patience_s
        self.lost: OSError | None = None

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: object) -> int:
        """Write all of ``data`` or drop the rest of it; return its length either way."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        left = view
        while left and self.lost is None:
            try:
                if not self._wait_until_writable():
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
                left = left[os.write(self._descriptor, left[:_PIECE_BYTES]) :]
            except BlockingIOError:
                continue  # O_NONBLOCK, shared with the parent: another process was faster
            except OSError as error:
                self.lost = error
        return len(view)

    def _wait_until_writable(self) -> bool:
        if self._patience_s is None:
            return writable(self._descriptor, None)
        return writable(self._descriptor, Deadline.after(self._patience_s))


def protect_output() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams that never raise.

    Their encoding stays; a character that it lacks is written as an escape. Results may wait for
    their reader as long as it likes; progress may not.
    """
    if sys.stdin is None:  # it was closed
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  for our whole life
    sys.stdout = _stream(sys.stdout, 1, None)
    sys.stderr = _stream(sys.stderr, 2, _PATIENCE_S)


def lost_output() -> OSError | None:
    """Flush ``sys.stdout``; return the error by which some of it was lost, if any was."""
    raw = _raw(sys.stdout)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    return raw.lost if raw else None


def forget_lost_output() -> None:
    """From now on a loss of what was written before does not count; later output is dropped.

    A reader that went away did not want more; for everything else there is a line on stderr.
    """
    lost = lost_output()
    if lost is None:
        return
    if lost.errno not in (errno.EPIPE, errno.EIO):
        sys.stderr.write(f"warning: the result could not be printed: {lost.strerror}\n")
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    raw = _raw(sys.stdout)
    if raw is not None:
        raw.lost = None


def _raw(stream: object) -> Output | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Output) else None


def _stream(old: TextIO | None, descriptor: int, patience_s: float | None) -> TextIO:
    if _raw(old) is not None:
        return old  # type: ignore[return-value]  # it has a raw stream, so it is one
    if old is not None:
        with suppress(OSError, ValueError):
            old.flush()
            if old.fileno() != descriptor:
                return old  # captured by a test or a program that embeds us: theirs
    raw = Output(descriptor, patience_s)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=(old.encoding if old is not None else None) or "utf-8",
        errors="backslashreplace",
        line_buffering=patience_s is not None or raw.isatty(),
    )
