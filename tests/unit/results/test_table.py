"""What a person reads; nothing in a record can do more than be read."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from rich.console import Console

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
from harness.results.report.table import print_run
from harness.results.report.words import duration, offset, printable


def a_record(name: str = "web1", outcome: Outcome = Outcome.PASS) -> RunRecord:
    clock = ClockRecord(
        method="relative-step",
        after_resume=ClockReading(offset_s=-5.0031, uncertainty_s=0.0012),
        after_correction=ClockReading(offset_s=0.0002, uncertainty_s=0.0011),
    )
    check = CheckRecord(
        name="clock", outcome=outcome, measured=0.25, allowed=0.01, unit="s", detail="too much"
    )
    guest = GuestRecord(
        name=name,
        uuid="u",
        outcome=outcome,
        accelerator="tcg",
        pause_window_s=5.012,
        stale_clock_window_s=0.0921,
        clock=clock,
        checks=(check,),
    )
    domain = UpdateDomainRecord(
        name="0",
        guests=(name,),
        outcome=outcome,
        pause_window_s=5.012,
        update_s=5.0,
        overhead_s=0.012,
    )
    return RunRecord(
        run_id="r",
        started_at=datetime(2026, 1, 1, 0, 0, 0, tzinfo=UTC),
        finished_at=datetime(2026, 1, 1, 0, 0, 15, tzinfo=UTC),
        outcome=outcome,
        exit_code=0,
        budget_s=30.0,
        host=HostRecord(
            hostname="box", kernel="6", libvirt="9", hypervisor="QEMU 7", cpu="c", accelerator="tcg"
        ),
        update=UpdateRecord(kind="stand-in"),
        update_domains=(domain,),
        guests=(guest,),
    )


def drawn(record: RunRecord, width: int = 80) -> str:
    out = io.StringIO()
    print_run(record, Console(file=out, width=width))
    return out.getvalue()


def test_a_green_run_fits_80_columns_and_says_slow():
    """One line a guest; the offset in words."""
    text = drawn(a_record())
    assert all(len(line) <= 80 for line in text.splitlines())
    row = next(line for line in text.splitlines() if line.startswith("web1"))
    assert "5.003 s slow" in row
    assert "± 1.1 ms" in row
    assert row.rstrip().endswith("PASS")


def test_what_is_to_be_pasted_stays_in_one_line():
    """A command that is broken over two lines does something else in a shell."""
    command = "virsh -c qemu:///system resume " + "web-with-a-long-name-" * 4
    record = a_record()
    (guest,), (domain,) = record.guests, record.update_domains
    guest = guest.model_copy(
        update={"still_paused": True, "resume_hint": command, "problems": (f"a: {command}",)}
    )
    domain = domain.model_copy(update={"problems": (f"b: {command}",)})
    changed = {"guests": (guest,), "update_domains": (domain,), "warnings": (f"c: {command}",)}
    lines = drawn(record.model_copy(update=changed)).splitlines()
    assert sum(command in line for line in lines) == 4


def test_a_run_that_could_not_log_in_shows_no_empty_table():
    record = a_record(outcome=Outcome.ERROR)
    (guest,) = record.guests
    guest = guest.model_copy(update={"checks": (), "problems": ("web1: no login",)})
    text = drawn(record.model_copy(update={"update_domains": (), "guests": (guest,)}))
    assert "no update domain is in the record" in text
    assert "web1: no login" in text
    assert "pause window" not in text
    assert "clock now" not in text


def test_what_failed_is_said_with_measured_and_allowed():
    """A person sees what was broken without opening a file."""
    assert "web1: clock FAIL: 250.0 ms vs 10.0 ms; too much" in drawn(
        a_record(outcome=Outcome.FAIL)
    )


def test_markup_and_escape_sequences_in_a_name_are_shown_not_obeyed():
    """Names are data, on the terminal too."""
    text = drawn(a_record("[red]\x1b[2J"), width=200)
    assert "\x1b" not in text
    assert r"[red]\x1b[2J" in text


def test_durations_have_the_unit_people_expect():
    """From microseconds to seconds; unknown is a dash."""
    shown = [duration(value) for value in (0.0000123, 0.0039, 5.0, None)]
    assert shown == ["12 µs", "3.9 ms", "5.000 s", "–"]
    assert offset(None) == "–"
    assert printable("a\u202eb") == r"a\u202eb"
