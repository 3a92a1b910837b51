"""Files that are whole or not there, folders with the mode that was meant, whatever the umask.

And the last lines of files that others write.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from harness.core.errors import InfrastructureError

_PRIVATE = 0o700


def private_folder(path: Path, *, new: bool = False) -> Path:
    """Make ``path``, and every folder that is missing on the way, for its owner alone.

    Args:
        path: may be there already; it is then left as it is.
        new: it may not be there already.

    Returns:
        ``path``.

    Raises:
        OSError: it cannot be made; FileExistsError where ``new`` is asked for.
    """
    _make(path, _PRIVATE, new)
    return path


def private_file(path: Path) -> None:
    """Make an empty file for its owner alone from its first moment on, unless there is one.

    One that is there is not opened: to close it would end every lock that this process has on it
    by SQLite (POSIX). Raises OSError.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def public_folder(path: Path, *, mode: int = 0o755, new: bool = False) -> Path:
    """Make ``path`` as :func:`private_folder` does, for others to read, or what ``mode`` says."""
    _make(path, mode, new)
    return path


def private_folder_at(parent: int, name: str) -> int:
    """Make a folder in the one that is open as ``parent``, for its owner alone, and open it.

    Returns:
        Its descriptor, for the caller to close. No symbolic link is followed.

    Raises:
        OSError: it cannot be made; FileExistsError if anything of that name is there.
    """
    os.mkdir(name, _PRIVATE, dir_fd=parent)
    descriptor = os.open(
        name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
    )
    os.fchmod(descriptor, _PRIVATE)  # the umask may have taken some of it away
    return descriptor


def _make(path: Path, mode: int, new: bool) -> None:
    # Not os.makedirs: what it makes on the way has whatever mode the umask leaves.
    if not path.parent.is_dir():
        _make(path.parent, mode, new=False)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if new or not path.is_dir():
            raise
        return
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)  # the umask has taken some of it away


def write_atomically(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace ``path`` with ``text`` and return when it is on the disk.

    Raises InfrastructureError.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise InfrastructureError(f"cannot write {path}: {error.strerror}") from error


def last_lines(log: Path, count: int = 1) -> str:
    """Return the last ``count`` lines of a log that are not blank, joined by `` / ``.

    "" if there is no such line or no such file.
    """
    said = log.read_text(errors="replace").splitlines() if log.exists() else []
    return " / ".join([line.strip() for line in said if line.strip()][-count:])


def sync_folder(folder: Path) -> None:
    """Return when the names in it are on the disk: a file's own bytes are not enough.

    Raises OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
