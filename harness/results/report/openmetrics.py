"""What a state folder tells a collector, as OpenMetrics text; Prometheus reads it as its own too.

For a file of node_exporter's textfile collector, and for collectors that ask the events server.
"""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.records import Outcome, RunRecord
from harness.results.folder import RunFolder, all_runs
from harness.results.in_progress import look, runs_in_progress
from harness.results.report.prometheus import END, document, gauge, write
from harness.results.unfinished import dead_runs

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass
class Collected:
    """The metrics of one state folder; a record that does not change any more is read once."""

    state_dir: Path
    _known: dict[str, RunRecord] = field(default_factory=dict)

    def text(self) -> str:
        """Return all metrics as they are now; what cannot be read is left out."""
        records = self._records()
        newest = document(records[0]) if records else ""
        return newest + self._runs(records) + self._held() + END

    def _records(self) -> list[RunRecord]:
        """Return the records of runs that have ended, newest first."""
        folders = {folder.run_id: folder for folder in all_runs(self.state_dir)}
        self._known = {run_id: self._known[run_id] for run_id in folders if run_id in self._known}
        for run_id, folder in folders.items():
            if run_id not in self._known and (found := _ended(folder)) is not None:
                self._known[run_id] = found
        return [self._known[run_id] for run_id in folders if run_id in self._known]

    def _runs(self, records: list[RunRecord]) -> str:
        counted = Counter((one.host.hostname, one.outcome.value) for one in records)
        hosts = {host for host, _ in counted} or {platform.node()}
        every = [(host, outcome.value) for host in sorted(hosts) for outcome in Outcome]
        values = [({"host": h, "outcome": o}, float(counted[h, o])) for h, o in every]
        return gauge("harness_runs", "runs whose folder is kept, by outcome", values)

    def _held(self) -> str:
        """Return which guests are held now: by a run that goes on, or by one that died."""
        dead, held = list(dead_runs(self.state_dir)), Counter[str]()
        for folder in dead:
            held["dead"] += _count_held(folder)
        for run in runs_in_progress(self.state_dir):
            held["live"] += len(run.held)
        host = {"host": platform.node()}
        paused = [({**host, "run": state}, float(held[state])) for state in ("dead", "live")]
        died = "runs that ended unexpectedly: harness recover"
        return gauge("harness_dead_runs", died, [(host, float(len(dead)))]) + gauge(
            "harness_guests_held", "guests that runs have paused and must resume", paused
        )


def _ended(folder: RunFolder) -> RunRecord | None:
    try:
        record = folder.record()
    except HarnessError:
        return None
    return record if record.finished_at is not None else None


def _count_held(folder: RunFolder) -> int:
    try:
        now = look(folder)
    except HarnessError:
        return 0
    return len(now.held) if now is not None else 0


def leave(file: Path, state_dir: Path) -> None:
    """Replace ``file`` by the metrics of ``state_dir``. Raises InfrastructureError."""
    write(file, Collected(state_dir).text())
