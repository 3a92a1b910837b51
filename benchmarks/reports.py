"""What reports and the history cost.

    make bench-reports [RUNS=100000]

Each figure is that of a process of its own, as a person would start it, five times: a report of 100
guests with full journals, and a list from a history of 10 runs and of 10,000, or of ``RUNS``. CPU
time is printed too: on a busy machine it is what can be compared. ``--write`` puts the table into
docs/reference/reports.md.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from benchmarks import document
from benchmarks.cost import Cost, measured
from harness.core.records import (
    CheckRecord,
    ClockReading,
    ClockRecord,
    GuestRecord,
    HostRecord,
    Outcome,
    RunRecord,
    UpdateDomainRecord,
    UpdateRecord,
)
from harness.results.folder import RunFolder
from harness.results.history.schema import figures, runs
from harness.results.history.store import History

REPEATS = 5
GUESTS, RUNS = 100, 10_000
#: What the list costs however many runs there are: most of it is Python's start.
FEW = 10
START = datetime(2026, 1, 1, tzinfo=UTC)
FIGURES = ("pause_window_s", "overhead_s", "stale_clock_window_s", "residual_s", "duration_s")


def measure(arguments: list[str], state_dir: Path) -> Cost:
    """One ``harness`` process, from outside."""
    command = [sys.executable, "-P", "-m", "harness", *arguments]
    environment = {**os.environ, "HARNESS_STATE_DIR": str(state_dir)}
    environment.pop("HARNESS_HISTORY_URL", None)
    return measured(command, environment=environment)[1]


def _guest(number: int) -> GuestRecord:
    checks = tuple(
        CheckRecord(name=f"check-{n}", outcome=Outcome.PASS, measured=0.001 * n, allowed=1.0,
                    unit="s", detail="as it should be")
        for n in range(20)
    )  # fmt: skip
    return GuestRecord(
        name=f"guest-{number}",
        uuid=f"uuid-{number}",
        outcome=Outcome.PASS,
        accelerator="kvm",
        pause_window_s=5.0,
        stale_clock_window_s=0.1,
        clock=ClockRecord(
            method="relative-step",
            before=ClockReading(offset_s=-0.01, uncertainty_s=0.001),
            after_resume=ClockReading(offset_s=-5.01, uncertainty_s=0.001),
            after_correction=ClockReading(offset_s=0.0002, uncertainty_s=0.001),
        ),
        checks=checks,
        facts={"kernel": "6.1.0", "address": "192.0.2.1"},
    )


def make_run(state_dir: Path) -> None:
    """A run of 100 guests in ten update domains, with its journal."""
    guests = tuple(_guest(number) for number in range(GUESTS))
    names = [tuple(g.name for g in guests[start : start + 10]) for start in range(0, GUESTS, 10)]
    record = RunRecord(
        run_id="20260101T000000Z-bench0",
        started_at=START,
        finished_at=START + timedelta(minutes=2),
        outcome=Outcome.PASS,
        exit_code=0,
        budget_s=30.0,
        host=HostRecord(hostname="box", kernel="6", libvirt="9", hypervisor="QEMU 7", cpu="c",
                        accelerator="kvm"),
        update=UpdateRecord(kind="stand-in"),
        update_domains=tuple(
            UpdateDomainRecord(name=str(number), guests=of_it, outcome=Outcome.PASS,
                               pause_window_s=5.0, update_s=4.99, overhead_s=0.01)
            for number, of_it in enumerate(names)
        ),
        guests=guests,
    )  # fmt: skip
    path = state_dir / "runs" / record.run_id
    path.mkdir(parents=True)
    RunFolder(path).write_record(record)
    with open(path / "journal.jsonl", "w") as file:
        for number, of_it in enumerate(names):
            members = [{"name": name, "uuid": name.replace("guest", "uuid")} for name in of_it]
            told = [(0.0, {"event": "update domain", "name": str(number)}),
                    (0.0, {"event": "pausing", "guests": members})]  # fmt: skip
            told += [(0.01, {"event": "paused", "guest": m["name"], **m}) for m in members]
            told += [(5.0, {"event": "resuming", "guests": members})]
            told += [(5.01, {"event": "resumed", "guest": m["name"], **m}) for m in members]
            told += [(5.1, {"event": "mended", "guest": m["name"], **m}) for m in members]
            for at_s, entry in told:
                stamp = round((number * 10 + at_s) * 1e9)
                file.write(json.dumps({"boottime_ns": stamp, "run_id": "r", **entry}) + "\n")
        ended = {"boottime_ns": stamp, "run_id": "r", "event": "run finished", "outcome": "PASS"}
        file.write(json.dumps({**ended, "exit_code": 0}) + "\n")


def make_history(state_dir: Path, count: int) -> None:
    """So many runs of three guests, written straight into the database."""
    url = f"sqlite:///{state_dir / 'history.db'}"
    with History.open(url):
        pass
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for first in range(0, count, RUNS):
            _add_runs(connection, range(first, min(first + RUNS, count)), count)
    engine.dispose()


def _add_runs(connection: sa.Connection, numbers: range, count: int) -> None:
    connection.execute(sa.insert(runs), [
        {"run_id": f"run-{n:06}", "started_at": datetime(2000, 1, 1) + timedelta(hours=n),
         "finished_at": None, "outcome": "pass", "exit_code": 0, "host": f"box-{n % 7}",
         "accelerator": "kvm", "hypervisor": "QEMU", "update_kind": "stand-in",
         "update_command": "[]", "guests": 3, "label": "nightly", "harness_version": "0",
         "folder": ""}
        for n in numbers
    ])  # fmt: skip
    connection.execute(sa.insert(figures), [
        {"run_id": f"run-{n:06}", "guest": guest, "name": name, "value": n / count}
        for n in numbers for guest in ("", "a", "b", "c") for name in FIGURES
    ])  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    if asked.runs < RUNS:
        parser.error(
            f"--runs {asked.runs}: at least {RUNS}, for the trend begins after a year of them"
        )
    cases = {
        f"report of {GUESTS} guests": (["report", "--format", "html"], 5.0, 300.0),
        f"history of {FEW} runs": (["history"], None, None),
        f"history of {asked.runs} runs": (["history"], 0.5, None),
        "history trend": (["history", "trend", "overhead_s", "--since", "2001-01-01"], None, None),
        "history verdict": (["history", "verdict"], None, None),
    }
    rows = []
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        state_dir = Path(folder)
        make_run(state_dir)
        make_history(state_dir, asked.runs)
        few = state_dir / "few"
        few.mkdir()
        make_history(few, FEW)
        for case, (arguments, wall_s, memory_mib) in cases.items():
            where = few if case == f"history of {FEW} runs" else state_dir
            measure(arguments, where)  # caches
            found = [measure(arguments, where) for _ in range(REPEATS)]
            rows.append(
                [
                    case,
                    _shown([sample.total_s for sample in found], "s"),
                    f"{wall_s:g} s" if wall_s else "",
                    _shown([sample.cpu_s for sample in found], "s"),
                    _shown([sample.memory_mib for sample in found], "MiB") if memory_mib else "",
                    f"{memory_mib:g} MiB" if memory_mib else "",
                ]
            )
    header = ["", "wall", "allowed", "CPU", "memory", "allowed"]
    text = (
        f"`make bench-reports` on {document.machine()}; {REPEATS} times each, median (worst).\n\n"
        f"{document.table(header, rows)}"
    )
    print(text)
    if asked.write:
        document.write(document.DOCS / "reference" / "reports.md", "figures", text)


def _shown(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.3g} ({max(values):.3g}) {unit}"


if __name__ == "__main__":
    main()
