"""The run.json contract and the order of outcomes."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from harness.core.records import (
    EXIT_CODES,
    GuestRecord,
    HostRecord,
    Outcome,
    RunRecord,
    UpdateDomainRecord,
    UpdateRecord,
)

#: Names other programs rely on: add freely, rename never.
CONTRACT = {
    RunRecord: "schema_version run_id started_at finished_at outcome exit_code budget_s host "
    "update update_domains guests",
    HostRecord: "hostname kernel libvirt hypervisor cpu accelerator",
    UpdateRecord: "kind command returncode duration_s",
    UpdateDomainRecord: "name guests outcome pause_window_s update_s overhead_s",
    GuestRecord: "name uuid outcome accelerator clocksource pause_window_s stale_clock_window_s "
    "clock checks",
}


@pytest.mark.parametrize("model", CONTRACT)
def test_every_name_of_the_contract_is_there(model):
    """A renamed field breaks other people's programs."""
    assert set(CONTRACT[model].split()) <= set(model.model_fields)


def test_the_worst_outcome_wins():
    """ERROR > FAIL > PASS > SKIP, whatever the order."""
    ranked = [Outcome.SKIP, Outcome.PASS, Outcome.FAIL, Outcome.ERROR]
    for low, high in itertools.combinations(ranked, 2):
        assert Outcome.worst([low, high]) is Outcome.worst([high, low]) is high


def test_a_run_that_tested_nothing_is_not_a_success():
    """Nothing at all is SKIP, and SKIP does not exit 0."""
    assert Outcome.worst([]) is Outcome.SKIP
    assert EXIT_CODES[Outcome.SKIP] != 0
    assert [EXIT_CODES[o] for o in (Outcome.PASS, Outcome.FAIL, Outcome.ERROR)] == [0, 1, 3]


def test_a_record_survives_being_written_and_read():
    """JSON and back gives the same record; an unknown field is refused."""
    record = RunRecord(
        run_id="r",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        outcome=Outcome.PASS,
        exit_code=0,
        budget_s=30.0,
        host=HostRecord(
            hostname="h", kernel="k", libvirt="9", hypervisor="q", cpu="c", accelerator="tcg"
        ),
        update=UpdateRecord(kind="stand-in"),
        guests=(GuestRecord(name="a", uuid="u", outcome=Outcome.PASS, accelerator="tcg"),),
    )
    text = record.model_dump_json()
    assert RunRecord.model_validate_json(text) == record
    with pytest.raises(ValidationError):
        RunRecord.model_validate_json(text.replace('"run_id"', '"run_ident"'))
