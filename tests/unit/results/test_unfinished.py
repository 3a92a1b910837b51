"""Dead runs are found by their journals, and a folder that cannot be searched is no empty one."""

from __future__ import annotations

import json
import os
import threading

import pytest

from harness.core.errors import JournalError
from harness.core.timebase import SYSTEM_CLOCK
from harness.results.journal import FILE_NAME, Journal, in_use
from harness.results.unfinished import dead_runs, journals_that_know, search

INTENT = {"event": "pausing", "guests": [{"name": "a", "uuid": "uuid-a"}]}


def a_run(state_dir, run_id: str, *told: dict) -> None:
    folder = state_dir / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / FILE_NAME).write_text("".join(json.dumps(one) + "\n" for one in told))


def test_a_run_is_found_by_its_journal_alone(tmp_path):
    """Newest first; one that has ended, or goes on, is not dead; a folder without one is no run."""
    a_run(tmp_path, "1", INTENT)
    a_run(tmp_path, "2", INTENT, {"event": "run finished"})
    a_run(tmp_path, "3", INTENT)
    a_run(tmp_path, "4", INTENT)
    (tmp_path / "runs" / "5").mkdir()
    with Journal(tmp_path / "runs" / "4", "4"):
        assert [one.run_id for one in dead_runs(tmp_path)] == ["3", "1"]


def test_a_folder_that_cannot_be_searched_says_why(tmp_path, monkeypatch):
    """One that is not there has no runs."""
    assert search(tmp_path / "none") == search(tmp_path / "none")
    assert search(tmp_path / "none").refused is None

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    found = search(tmp_path)
    assert (found.dead, found.refused) == ((), "Permission denied")


def test_which_runs_know_a_guest(tmp_path):
    """Dead or not; what cannot be read says nothing."""
    a_run(tmp_path, "1", INTENT, {"event": "run finished"})
    a_run(tmp_path, "2", {"event": "run started"})
    (tmp_path / "runs" / "3" / FILE_NAME).mkdir(parents=True)
    assert [one.run_id for one in journals_that_know("uuid-a", [tmp_path])] == ["1"]
    assert list(journals_that_know("uuid-b", [tmp_path])) == []


def test_who_looks_whether_a_run_is_dead_keeps_nobody_from_carrying_it_on(tmp_path):
    """A lock for an instant, again and again; who really holds it is waited for in vain."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            in_use(tmp_path / FILE_NAME)

    with Journal(tmp_path, "run"):
        pass
    lookers = [threading.Thread(target=look) for _ in range(2)]
    for one in lookers:
        one.start()
    try:
        for _ in range(200):
            with Journal(tmp_path, "run"):
                pass
    finally:
        over.set()
        for one in lookers:
            one.join()
    began_ns = SYSTEM_CLOCK.monotonic_ns()
    with Journal(tmp_path, "run"), pytest.raises(JournalError, match="another process"):
        Journal(tmp_path, "run")
    assert SYSTEM_CLOCK.monotonic_ns() - began_ns < 10e9
