"""What is made of a finished run: by a process of its own, and never at the run's expense."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.cli.main import run_command_line
from harness.core.records import Outcome
from harness.core.settings import Config
from harness.results import publish
from harness.results.folder import RunFolder
from harness.results.history.store import History
from harness.testing.runs import a_folder, a_guest, a_run


@pytest.fixture(autouse=True)
def state_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("HARNESS_HISTORY_URL", raising=False)
    return tmp_path


def test_a_finished_run_gets_its_page_and_its_row(state_dir):
    """Private, as everything in a run folder."""
    folder = a_folder(state_dir, a_run())
    assert publish.finish(folder) == []
    page = folder.path / "report.html"
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert page.stat().st_mode & 0o777 == 0o600
    with History.open() as history:
        assert history.find(None).run_id == folder.run_id


def test_one_that_fails_is_a_warning_and_does_not_cost_the_other(state_dir, monkeypatch):
    """No history: the page is there. No record: both say so, and nothing is raised."""
    monkeypatch.setenv("HARNESS_HISTORY_URL", "sqlite:////nonexistent/x.db")
    folder = a_folder(state_dir, a_run())
    [warning] = publish.finish(folder)
    assert warning.startswith("the run is not in the history: ")
    assert (folder.path / "report.html").exists()
    (folder.path / "run.json").write_text("{}")
    assert len(publish.finish(folder)) == 2


def test_a_process_that_cannot_be_had_is_a_warning(state_dir, monkeypatch):
    """The run is over, and was what it was."""

    def fail(*arguments, **about):
        raise OSError("no process")

    monkeypatch.setattr(subprocess, "run", fail)
    assert len(publish.finish(RunFolder(state_dir))) == 1


def test_a_page_that_takes_too_long_does_not_cost_the_row(state_dir, monkeypatch):
    """A slow host: the run is in the history by then, and what is missing is named, and how to."""
    folder = a_folder(state_dir, a_run())
    os.mkfifo(folder.path / ".report.html.new")  # to be written there waits for a reader
    monkeypatch.setattr(publish, "LIMIT_S", 10.0)  # that is what the row may take on a busy machine
    [warning] = publish.finish(folder)
    assert warning == (
        "report.html was not written: given up after 10 s; "
        f"harness report --format html {folder.path} makes up for it"
    )
    with History.open() as history:
        assert history.find(None).run_id == folder.run_id


def test_what_has_failed_by_then_is_said_as_it_was(state_dir, monkeypatch):
    """Only what was still to be made is given up; and a folder's name is one word of a command."""
    monkeypatch.setenv("HARNESS_HISTORY_URL", "sqlite:////nonexistent/x.db")
    folder = a_folder(state_dir / "my lab", a_run())
    os.mkfifo(folder.path / ".report.html.new")
    monkeypatch.setattr(publish, "LIMIT_S", 10.0)
    row, page = publish.finish(folder)
    assert row.startswith("the run is not in the history: ")
    assert "given up" not in row
    assert f"html '{folder.path}' makes up for it" in page


def test_a_history_that_never_answers_is_named_with_the_page_that_waited_for_it(monkeypatch):
    """Nothing is made: both are named."""
    late = subprocess.TimeoutExpired("x", 300)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(late))
    row, page = publish.finish(RunFolder(Path("/runs/a")))
    assert row.startswith("the run is not in the history: given up after 300 s")
    assert "harness history import /runs/a" in row
    assert page.startswith("report.html was not written: ")


def test_an_impatient_person_costs_the_report_not_the_exit_code(state_dir, monkeypatch, capsys):
    """Ctrl-C while the page is drawn; and a stranded guest is told of before it is."""
    from harness.cli.commands.run import conclude
    from harness.core.errors import GuestStranded
    from harness.maintenance.run import Finished

    def interrupted(folder):
        assert "STILL PAUSED: web1" in capsys.readouterr().err
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "finish", interrupted)
    folder = a_folder(state_dir, a_run())
    finished = Finished(a_run(), folder, GuestStranded(["web1"]))
    conclude(finished, config=Config(), show=False, report=True)
    assert "no report was written: interrupted" in capsys.readouterr().err


def _said(capsys, *words: str) -> tuple[int, str]:
    return run_command_line(["report", *words]), capsys.readouterr().out


def test_a_run_is_redrawn_in_every_form(state_dir, capsys, monkeypatch):
    """The files are written anew and named; --open shows the page."""
    folder = a_folder(state_dir, a_run(a_guest(outcome=Outcome.FAIL), outcome=Outcome.FAIL))
    shown: list[str] = []
    monkeypatch.setattr("click.launch", shown.append)
    assert _said(capsys, "--format", "html") == (0, f"{folder.path / 'report.html'}\n")
    assert _said(capsys, "--format", "junit") == (0, f"{folder.path / 'junit.xml'}\n")
    assert "<failure" in (folder.path / "junit.xml").read_text()
    assert '"outcome": "fail"' in _said(capsys, "--format", "json")[1]
    assert _said(capsys, "--format", "json") == _said(capsys, "--json")
    assert "web1: clock FAIL" in _said(capsys, "--format", "table")[1]
    assert shown == []
    _said(capsys, "--open")
    assert shown == [(folder.path / "report.html").as_uri()]
    assert _said(capsys, "--json", "--format", "html")[0] == 2
    assert _said(capsys, "--open", "--format", "junit")[0] == 2
