"""Run folders without a run: records and journals as a maintenance would have left them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

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

START = datetime(2026, 1, 1, 2, 0, 0, tzinfo=UTC)
#: What no page, document, database or picture may choke on, or obey.
HOSTILE = "</title><script>alert(1)</script>$\\frac$ \x1b[2J\x00\u202e]]>&'\"{{7*7}}\ufffe--> 漢"


def a_guest(
    name: str = "web1", outcome: Outcome = Outcome.PASS, *, residual_s: float = 0.0002
) -> GuestRecord:
    """A guest that was paused for 5 s and whose clock was corrected."""
    return GuestRecord(
        name=name,
        uuid=f"uuid-{name}",
        outcome=outcome,
        accelerator="tcg",
        clocksource="tsc",
        pause_window_s=5.012,
        pause_inner_s=5.004,
        stale_clock_window_s=0.0921,
        clock=ClockRecord(
            method="relative-step",
            expected_lag_s=-5.01,
            before=ClockReading(offset_s=-0.2, uncertainty_s=0.001),
            after_resume=ClockReading(offset_s=-5.2031, uncertainty_s=0.0012),
            after_correction=ClockReading(offset_s=residual_s, uncertainty_s=0.0011),
            monotonic_deficit_s=5.008,
        ),
        checks=(
            CheckRecord(name="pause-window", outcome=Outcome.PASS, measured=5.012, allowed=30.0,
                        unit="s"),
            CheckRecord(name="clock", outcome=outcome, measured=0.0002, allowed=0.01, unit="s",
                        detail="0.0002 s fast"),
            CheckRecord(name="same-boot", outcome=Outcome.PASS, measured="b-1", allowed="b-1",
                        unit="boot id"),
            CheckRecord(name="kernel-log", outcome=Outcome.SKIP, detail="not asked"),
        ),
        facts={"kernel": "6.1.0", "address": "192.0.2.1"},
    )  # fmt: skip


def a_run(
    *guests: GuestRecord,
    run_id: str = "20260101T020000Z-aaaaaa",
    outcome: Outcome = Outcome.PASS,
    started_at: datetime = START,
    overhead_s: float = 0.012,
    accelerator: str = "tcg",
    host: str = "box",
    label: str = "run",
) -> RunRecord:
    """A finished run of one update domain."""
    guests = guests or (a_guest(),)
    names = tuple(guest.name for guest in guests)
    return RunRecord(
        run_id=run_id,
        started_at=started_at,
        finished_at=started_at + timedelta(seconds=15),
        outcome=outcome,
        exit_code=0 if outcome is Outcome.PASS else 1,
        budget_s=30.0,
        host=HostRecord(hostname=host, kernel="6", libvirt="9", hypervisor="QEMU 7", cpu="c",
                        accelerator=accelerator),
        update=UpdateRecord(kind="stand-in", returncode=0, duration_s=5.0),
        update_domains=(
            UpdateDomainRecord(name="0", guests=names, outcome=outcome,
                               pause_window_s=5.0 + overhead_s, update_s=5.0,
                               overhead_s=overhead_s),
        ),
        guests=guests,
        harness_version="0",
        label=label,
    )  # fmt: skip


def a_journal(record: RunRecord) -> list[dict[str, object]]:
    """What such a run wrote down on its way."""
    members = [{"name": guest.name, "uuid": guest.uuid} for guest in record.guests]
    told: list[tuple[float, Mapping[str, object]]] = [
        (0.0, {"event": "run started", "guests": [guest.name for guest in record.guests]}),
        (1.0, {"event": "update domain", "name": "0"}),
        (2.0, {"event": "pausing", "guests": members}),
        (2.001, {"event": "armed", "limit_s": 29.0}),
        *((2.01, {"event": "paused", "guest": m["name"], "uuid": m["uuid"]}) for m in members),
        (7.0, {"event": "resuming", "by": "run", "guests": members}),
        *((7.01, {"event": "resumed", "guest": m["name"], "uuid": m["uuid"], "by": "run"})
          for m in members),
        *((7.1, {"event": "mended", "guest": m["name"], "uuid": m["uuid"]}) for m in members),
        (8.0, {"event": "run finished", "outcome": record.outcome.value}),
    ]  # fmt: skip
    common = {"run_id": record.run_id, "pid": 1, "realtime_ns": 0}
    return [{**common, "boottime_ns": round(at_s * 1e9), **entry} for at_s, entry in told]


def a_folder(state_dir: Path, record: RunRecord) -> RunFolder:
    """The run folder of ``record``, with its journal."""
    path = state_dir / "runs" / record.run_id
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.write_record(record)
    lines = [json.dumps(entry) for entry in a_journal(record)]
    (path / "journal.jsonl").write_text("\n".join(lines) + "\n")
    return folder
