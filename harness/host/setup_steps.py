"""Steps of setting a host up: files that are written or removed, programs that are run.

They are listed before they are made, so that a person can be shown them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.files import public_folder, write_atomically

_READABLE = 0o644
#: Of a new ext4.
_OWN = "lost+found"


@dataclass(frozen=True)
class Change:
    """One file that is written or removed; ``content`` None: removed."""

    path: Path
    content: str | None
    shown: str
    """What of it is new, for people."""

    def make(self) -> None:
        """Write or remove it. Raises InfrastructureError."""
        try:
            if self.content is None:
                self.path.unlink(missing_ok=True)
            else:
                public_folder(self.path.parent)
                write_atomically(self.path, self.content, mode=_READABLE)
        except OSError as error:
            raise InfrastructureError(f"{self.path}: {error.strerror}") from error


@dataclass(frozen=True)
class Setup:
    """What is to be done, in this order: ``before``, the files, ``after``."""

    files: tuple[Change, ...]
    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()
    remarks: tuple[str, ...] = ()
    """What a person has to do, or to know, then."""

    @property
    def nothing(self) -> bool:
        """Everything is as it should be."""
        return not self.files and not self.before and not self.after

    def make(self) -> None:
        """Do it. Raises InfrastructureError; what was done by then stays, and can be undone."""
        for words in self.before:
            run(words)
        for change in self.files:
            change.make()
        for words in self.after:
            run(words)


def read(path: Path) -> str | None:
    """Return the text of a file; None if there is none. Raises InfrastructureError."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InfrastructureError(f"{path}: {error.strerror}") from error


def entries(folder: Path) -> list[str]:
    """Return what a folder holds; nothing of what a file system brings along."""
    try:
        return sorted(one.name for one in folder.iterdir() if one.name != _OWN)
    except FileNotFoundError:
        return []


def run(words: Sequence[str]) -> None:
    """Run a program to its end. Raises InfrastructureError with its words where it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise InfrastructureError(f"{words[0]}: {error.strerror}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise InfrastructureError(f"{' '.join(words)} failed: {said}")
