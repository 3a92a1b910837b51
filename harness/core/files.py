"""Files that are whole or not there, and the last lines of those that others write."""

from __future__ import annotations

import os
from pathlib import Path

from harness.core.errors import InfrastructureError


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` with ``text``, mode 0600, and return when it is on the disk.

    Raises InfrastructureError.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise InfrastructureError(f"cannot write {path}: {error.strerror}") from error


def last_lines(log: Path, count: int = 1) -> str:
    """Return the last ``count`` lines of a log that are not blank, joined by `` / ``.

    "" if there is no such line or no such file.
    """
    said = log.read_text(errors="replace").splitlines() if log.exists() else []
    return " / ".join([line.strip() for line in said if line.strip()][-count:])


def _sync(folder: Path) -> None:
    """A name is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
