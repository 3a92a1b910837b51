"""A page in the region that says whose handover it holds: the next kernel believes nothing else.

That a kernel has set memory aside says nothing of what is in it: one without ``memmap=`` may have
run in between, and have used it.
"""

from __future__ import annotations

import os
from pathlib import Path

from harness.core.errors import InfrastructureError

NAME = "harness-handover"
_BYTES = 4096


def new_magic(run_id: str) -> str:
    """Return what the page of a run is to say; no other run's says it."""
    return f"harness handover 1 {run_id} {os.urandom(32).hex()}\n"


def write(folder: Path, magic: str) -> None:
    """Write the page, and return when it is in its file. Raises InfrastructureError."""
    page = folder / NAME
    try:
        page.unlink(missing_ok=True)
        descriptor = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(_filled(magic))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InfrastructureError(f"{page}: {error.strerror}") from error


def problem(folder: Path, magic: str) -> str:
    """Return why the page is not the one that was written; empty if it is."""
    page = folder / NAME
    try:
        with open(os.open(page, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            found = file.read(_BYTES + 1)
    except FileNotFoundError:
        return f"{page} is gone: the memory was lost, as by a cold boot, or used by another kernel"
    except OSError as error:
        return f"{page}: {error.strerror}"
    if found != _filled(magic):
        return f"{page} is not the page that the run has written: another kernel used this memory"
    return ""


def _filled(magic: str) -> bytes:
    """The text again and again: a page of which a part was overwritten is another."""
    text = magic.encode()
    return (text * (_BYTES // len(text) + 1))[:_BYTES]
