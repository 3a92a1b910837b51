"""`harness hold`: guests are paused, the shell comes back, and within the budget they go on.

What holds them is an ordinary run in the background, with its guardian, journal and record.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.core.background import BackgroundProcess, start_in_background
from harness.core.errors import InfrastructureError, JournalError
from harness.core.files import last_lines, private_folder
from harness.core.process_state import python_module, settle_process
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.events.order import Order
from harness.results.folder import RunFolder, all_runs
from harness.results.journal import FILE_NAME, Reading, fold, read


@dataclass(frozen=True)
class Held:
    """A run that holds guests."""

    process: BackgroundProcess
    folder: RunFolder
    guests: tuple[str, ...]


#: Starts the run that holds (what it is to do, the configuration file, its log). Raises OSError.
Launch = Callable[[Order, Path | None, Path], BackgroundProcess]


def _as_process(order: Order, config_file: Path | None, log: Path) -> BackgroundProcess:
    file = [str(config_file)] if config_file else []
    command = python_module("harness.cli.hold", order.as_json(), *file)
    return start_in_background(command, log, append=False)


def hold(
    order: Order,
    config_file: Path | None,
    state_dir: Path,
    deadline: Deadline,
    launch: Launch = _as_process,
) -> Held:
    """Start a run of kind hold in the background; return when all its guests are paused.

    Raises InfrastructureError with its last words if it ends before that.
    """
    log = state_dir / "hold.log"
    try:
        private_folder(state_dir)
        process = launch(order, config_file, log)
    except OSError as error:
        raise InfrastructureError(f"cannot start a run: {error.strerror}") from error

    def look() -> Held:
        if process.poll() is not None:
            last = last_lines(log).removeprefix("harness: ") or f"status {process.returncode}"
            raise InfrastructureError(f"nothing is held: {last}", hint=f"all of it is in {log}")
        return _found(process, state_dir)

    return wait_for(look, what="pausing", deadline=deadline)


def _found(process: BackgroundProcess, state_dir: Path) -> Held:
    """The run of that process, once it has paused all its guests. Raises NotYet."""
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


def main(order: str, config_file: str | None = None) -> None:
    """What the process in the background does: an ordinary maintenance, of kind hold."""
    settle_process()
    from harness.cli.commands.common import load_config
    from harness.cli.commands.run import maintain
    from harness.cli.main import exit_code

    def held() -> int:
        asked = Order.read(order)
        settings = {**asked.settings, "update.kind": "hold"}
        loaded = load_config(Path(config_file) if config_file else None, settings)
        return maintain(loaded, asked.guests, as_json=False)

    os._exit(exit_code(held))  # as the command line ends: a thread may still be inside libvirt


if __name__ == "__main__":
    main(*sys.argv[1:])
