"""Runs whose journal cannot tell everything: what is known is acted on, what is not is told."""

from __future__ import annotations

import json
import os

import pytest

from harness.core.errors import InternalError
from harness.core.records import Outcome
from harness.maintenance.recovery.record import Action
from harness.results.journal import FILE_NAME
from tests.maintenance.conftest import of
from tests.maintenance.recovery.test_recover import finish, killed
from tests.maintenance.updates import Hooked


def test_a_line_that_is_no_entry_is_told_and_nobody_stays_paused(house):
    """Guests are resumed; the run is not called finished, since it may have paused others."""
    at = house()
    folder = killed(at)
    with open(folder.path / FILE_NAME, "ab") as journal:
        journal.write(b"[]\n")
    recovered = finish(at, folder)
    assert at.running == ["web1", "web2"]
    assert {one.action for one in recovered.guests} == {Action.RESUMED}
    assert recovered.error is not None
    assert "it may have paused more guests than are listed" in str(recovered.error)


def test_a_guest_whose_intent_is_lost_is_held_by_its_later_lines(house):
    """It is resumed, and the record says how long it was paused at least."""
    at = house()
    folder = killed(at)
    path = folder.path / FILE_NAME
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["event"] != "pausing"))
    finish(at, folder)
    assert at.running == ["web1", "web2"]
    assert of(folder.record(), "web1").pause_window_s > 0


@pytest.mark.parametrize("readable", [True, False])
def test_a_bug_before_the_pause_is_recorded_as_one(house, monkeypatch, readable):
    """Also where the journal cannot be read to see who is held: nobody is said to be paused."""

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    def buggy() -> None:
        if not readable:
            monkeypatch.setattr(os, "pread", fail)
        raise ZeroDivisionError("a bug")

    at = house()
    finished = at.maintain(update=Hooked(prepare=buggy))
    monkeypatch.undo()
    assert isinstance(finished.error, InternalError)
    assert "ZeroDivisionError" in str(finished.error)
    assert (finished.record.outcome, finished.record.exit_code) == (Outcome.ERROR, 3)
    assert at.running == ["web1", "web2"]
