"""A program on a terminal of its own: what it shows, and what a person types there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.core.polling import readable
from harness.core.timebase import Deadline

CTRL_C = b"\x03"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_PATIENCE_S = 30.0
_AGAIN_S = 5.0


class Terminal:
    """What a program has shown so far; ``text`` is without what moves the cursor and colours."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self._ours = ours
        self._seen = b""
        self.process = process

    @property
    def raw(self) -> str:
        """Everything shown, escapes too."""
        return self._seen.decode(errors="replace")

    @property
    def text(self) -> str:
        """Everything shown, as plain text."""
        return _ESCAPES.sub("", self.raw)

    @property
    def screen(self) -> str:
        """What a person sees now: lines that were drawn over or erased are gone."""
        return "\n".join(_shown(self.raw)).rstrip()

    def until(self, wanted: str, times: int = 1) -> str:
        """Read until ``wanted`` was shown so often; return all that is shown by then."""
        deadline = Deadline.after(_PATIENCE_S)
        while self.text.count(wanted) < times:
            assert readable([self._ours], deadline), f"{wanted!r} is not in {self.text[-2000:]!r}"
            assert self._read(), f"ended without {wanted!r}: {self.text[-2000:]!r}"
        return self.text

    def type(self, keys: bytes) -> None:
        """Type on the keyboard; Ctrl-C is a signal as on any terminal."""
        os.write(self._ours, keys)

    def type_until(self, keys: bytes, wanted: str) -> None:
        """Type ``keys`` until ``wanted`` is shown.

        A signal that comes just before Python waits for a line is seen after that line only.
        """
        deadline = Deadline.after(_PATIENCE_S)
        while wanted not in self.text:
            assert not deadline.expired, f"{wanted!r} is not in {self.text[-2000:]!r}"
            self.type(keys)
            while wanted not in self.text and readable([self._ours], Deadline.after(_AGAIN_S)):
                assert self._read(), f"ended without {wanted!r}: {self.text[-2000:]!r}"

    def end(self) -> int:
        """Read to the end; return the exit code."""
        deadline = Deadline.after(_PATIENCE_S)
        while readable([self._ours], deadline) and self._read():
            pass
        return self.process.wait(_PATIENCE_S)

    def _read(self) -> bool:
        try:
            found = os.read(self._ours, 65536)
        except OSError:  # EIO: no program has it open any more
            return False
        self._seen += found
        return bool(found)


def _without_a_size(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key not in ("COLUMNS", "LINES")}


def _shown(raw: str) -> list[str]:
    """Return the lines of a terminal that is high enough; of escapes what rich's views use."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", raw):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
        elif part.startswith("\x1b"):
            count = int(part[2:-1]) if part[2:-1].isdigit() else 1
            if part.endswith("A"):
                row = max(0, row - count)
            elif part.endswith("K"):
                lines[row] = ""
        else:
            lines += [""] * (row + 1 - len(lines))
            line = lines[row].ljust(column)
            lines[row] = line[:column] + part + line[column + len(part) :]
            column += len(part)
        lines += [""] * (row + 1 - len(lines))
    return lines


@contextmanager
def on_a_terminal(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str], columns: int = 100
) -> Iterator[Terminal]:
    """Start ``words`` as the foreground of a new terminal; it does not outlive the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    # The shell's part: a session whose controlling terminal this is, so that Ctrl-C is a signal.
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    start = f"{take}; os.execvp(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", start, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**_without_a_size(environment), "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
