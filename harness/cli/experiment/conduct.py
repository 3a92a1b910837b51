"""Carrying an experiment out, cell by cell, and going on with it after an interruption.

``<state folder>/experiments/<name>/`` holds ``sweep.toml``, ``seed``, ``cells.jsonl`` (a line for
each cell that is done, on the disk before the next begins), ``runs/`` (links to the run folders,
which stay where ``harness recover`` looks for them), and what :mod:`.tidy` makes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from harness.cli.experiment.sweep import Cell, Sweep, new_seed
from harness.core.durations import spoken
from harness.core.errors import GuestStranded, HarnessError, InfrastructureError, Interrupted
from harness.core.files import private_folder, write_atomically
from harness.core.settings import Config
from harness.core.timebase import SYSTEM_CLOCK, Clock, Stopwatch
from harness.results.folder import RunFolder

if TYPE_CHECKING:
    from harness.maintenance.run import Finished

DONE = "cells.jsonl"
Rehearse = Callable[[Config, tuple[str, ...]], "Finished"]


@dataclass(frozen=True)
class Done:
    """A cell that has been carried out."""

    cell: Cell
    run_id: str
    outcome: str
    took_s: float


class Experiment:
    """An experiment's folder, and what has been done of it."""

    def __init__(self, sweep: Sweep, state_dir: Path) -> None:
        """Make the folder, or find it as it was left. Raises InfrastructureError."""
        self.sweep = sweep
        self.folder = state_dir / "experiments" / sweep.name
        self._runs = state_dir / "runs"
        try:
            private_folder(self.folder / "runs")
            self.seed = self._chosen_seed()
        except (OSError, ValueError) as error:
            raise InfrastructureError(f"cannot use {self.folder}: {error}") from error
        write_atomically(self.folder / "sweep.toml", sweep.text)
        self.cells = sweep.cells(self.seed)
        self.done = self._read()

    def _chosen_seed(self) -> int:
        """The file's, else the one it was begun with, else a new one."""
        file = self.folder / "seed"
        if file.exists():
            return int(file.read_text())
        seed = self.sweep.seed if self.sweep.seed is not None else new_seed()
        write_atomically(file, f"{seed}\n")
        return seed

    def _read(self) -> list[Done]:
        file = self.folder / DONE
        lines = file.read_text().splitlines() if file.exists() else []
        found = []
        for line in lines:
            try:
                entry = json.loads(line)
                cell = self.cells[entry["cell"]]
                found.append(Done(cell, entry["run_id"], entry["outcome"], entry["took_s"]))
            except (ValueError, KeyError, IndexError, TypeError):
                continue  # torn by a power cut: that cell is done once more
        return found

    @property
    def left(self) -> list[Cell]:
        """The cells that are still to be done, in order."""
        done = {one.cell.number for one in self.done}
        return [cell for cell in self.cells if cell.number not in done]

    def run_folder(self, done: Done) -> RunFolder:
        """The run of a cell that is done."""
        return RunFolder(self._runs / done.run_id)

    def conduct(
        self,
        base: Config,
        rehearse: Rehearse,
        say: Callable[[str], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> HarnessError | None:
        """Carry out what is left; the error that ended it early, if one did.

        A broken promise is a result. What makes a run impossible, an interruption, and a guest that
        is still paused end the experiment; it can be gone on with.
        """
        for cell in self.left:
            self.sweep.config(base, cell)  # a mistake is known before the first pause
        for cell in self.left:
            say(f"{self._progress()}: {cell.described()}")
            watch = Stopwatch(clock)
            try:
                finished = rehearse(self.sweep.config(base, cell), cell.guests)
            except HarnessError as error:
                return error
            if isinstance(finished.error, Interrupted | GuestStranded):
                return finished.error
            record, took_s = finished.record, watch.elapsed_s()
            self._note(Done(cell, record.run_id, record.outcome.value, took_s))
            say(f"{record.outcome.value.upper()} after {spoken(took_s)}, run {record.run_id}")
            if finished.error is not None:
                return finished.error
        return None

    def _progress(self) -> str:
        said = f"{len(self.done)} of {len(self.cells)} done"
        if not self.done:
            return said
        left_s = mean(one.took_s for one in self.done) * len(self.left)
        return f"{said}, about {spoken(left_s)} left"

    def _note(self, done: Done) -> None:
        entry: dict[str, Any] = {
            "cell": done.cell.number,
            "run_id": done.run_id,
            "outcome": done.outcome,
            "took_s": done.took_s,
        }
        try:
            with open(self.folder / DONE, "a", encoding="utf-8") as file:
                torn = file.tell() and not (self.folder / DONE).read_text().endswith("\n")
                file.write(("\n" if torn else "") + json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
            link = self.folder / "runs" / done.run_id
            if not link.is_symlink():
                link.symlink_to(os.path.relpath(self._runs / done.run_id, link.parent))
        except OSError as error:
            raise InfrastructureError(f"cannot write in {self.folder}: {error.strerror}") from error
        self.done.append(done)
