"""``--hold``: guests are paused, the shell comes back, and within the budget they go on.

What holds them is an ordinary run in the background, with its guardian, journal and record.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import InfrastructureError, JournalError
from harness.core.files import last_lines, private_folder
from harness.core.process_state import python_module
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.results.folder import RunFolder, all_runs
from harness.results.journal import FILE_NAME, Reading, fold, read


@dataclass(frozen=True)
class Held:
    """A run that holds guests."""

    process: subprocess.Popen[bytes]
    folder: RunFolder
    guests: tuple[str, ...]


def hold(arguments: Sequence[str], state_dir: Path, deadline: Deadline) -> Held:
    """Start ``harness run`` of kind hold with ``arguments``; return when all guests are paused.

    Raises InfrastructureError with its last words if it ends before that.
    """
    log = state_dir / "hold.log"
    command = python_module("harness", "run", "--kind", "hold", *arguments)
    try:
        private_folder(state_dir)
        with open(log, "wb", opener=_private) as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise InfrastructureError(f"cannot start a run: {error.strerror}") from error

    def look() -> Held:
        if process.poll() is not None:
            last = last_lines(log) or f"status {process.returncode}"
            raise InfrastructureError(f"nothing is held: {last}", hint=f"all of it is in {log}")
        return _found(process, state_dir)

    return wait_for(look, what="pausing", deadline=deadline)


def _found(process: subprocess.Popen[bytes], state_dir: Path) -> Held:
    """The run of that process, once it has paused everybody it wants to. Raises NotYet."""
    folder = next(iter(all_runs(state_dir)), None)
    if folder is None:
        raise NotYet("no run yet")
    try:
        reading = read(folder.path / FILE_NAME)
    except JournalError as error:
        raise NotYet(str(error)) from error
    guests = fold(reading).guests.values() if _written_by(process.pid, reading) else ()
    if not guests or any(guest.paused_ns is None for guest in guests):
        raise NotYet("not all guests are paused yet")
    return Held(process, folder, tuple(sorted(guest.member.name for guest in guests)))


def _written_by(pid: int, reading: Reading) -> bool:
    return any(line.pid == pid for line in reading.lines)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
