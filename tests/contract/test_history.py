"""The history: the same promises on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.cli.main import run_command_line
from harness.core.errors import InfrastructureError, MissingCapability, UsageError
from harness.core.records import Outcome
from harness.core.storage.database import migrate
from harness.results.folder import RunFolder, all_runs
from harness.results.history import schema
from harness.results.history.connection import LAYOUT
from harness.results.history.store import History, import_all
from harness.testing.runs import HOSTILE, START, a_folder, a_guest, a_run
from tests.contract.conftest import shape
from tests.postgresql import connected


def put(history: History, tmp_path: Path, **about) -> RunFolder:
    folder = a_folder(tmp_path, a_run(**about))
    history.add(folder)
    return folder


def test_a_run_comes_back_as_it_was(url, tmp_path):
    """Its facts, with times in UTC, and its figures: each guest's and the run's worst."""
    record = a_run(a_guest("a", residual_s=0.001), a_guest("b", residual_s=-0.003))
    with History.open(url) as history:
        history.add(a_folder(tmp_path, record))
        run = history.find(None)
        figures = {(f["guest"], f["name"]): f["value"] for f in history.figures([run.run_id])}
    assert (run.run_id, run.started_at, run.outcome) == (record.run_id, START, "pass")
    assert (run.host, run.accelerator, run.guests, run.label) == ("box", "tcg", 2, "run")
    assert figures["a", "residual_s"] == 0.001
    assert figures["", "residual_s"] == 0.003
    assert figures["", "duration_s"] == 15.0
    assert figures["a", "check.pause-window"] == 5.012


def test_importing_rebuilds_the_rows_and_keeps_the_label(url, tmp_path):
    """Safe to repeat; what cannot be read is named and left out."""
    with History.open(url) as history:
        folder = put(history, tmp_path, label="nightly")
        folder.write_record(a_run(overhead_s=0.5, label="nightly"))
        broken = a_folder(tmp_path, a_run(run_id="20260102T020000Z-bbbbbb"))
        (broken.path / "run.json").write_text("{}")
        done, refused = import_all(history, all_runs(tmp_path))
        [(run, overhead)] = history.trend("overhead_s", "")
        assert history.count() == 1
    assert (done, len(refused), run.label, overhead) == (1, 1, "nightly", 0.5)


def test_runs_come_newest_first_and_since(url, tmp_path):
    """With a limit, and without what is apart."""
    with History.open(url) as history:
        for day in range(4):
            put(history, tmp_path, run_id=f"run-{day}", started_at=START + timedelta(days=day),
                label="warm-up" if day == 3 else "run")  # fmt: skip
        ids = [run.run_id for run in history.newest(since=START + timedelta(days=1))]
        assert ids == ["run-3", "run-2", "run-1"]
        assert [run.run_id for run in history.newest(limit=1, apart=False)] == ["run-2"]
        assert [run.run_id for run, _ in history.trend("overhead_s", "")] == [
            *("run-0", "run-1", "run-2")
        ]


def test_hostile_names_are_data(url, tmp_path):
    """Every character that a name may hold goes in and does no harm."""
    with History.open(url) as history:
        put(history, tmp_path, host=HOSTILE)
        folder = a_folder(tmp_path, a_run(a_guest(HOSTILE), run_id="hostile"))
        history.add(folder)
        assert history.count() == 2
        assert {f["guest"] for f in history.figures(["hostile"])} == {
            "",
            HOSTILE.replace("\0", "\ufffd"),
        }


def test_a_run_is_found_by_part_of_its_id(url, tmp_path):
    """Unique, or it is refused; `%` and `_` stand for themselves."""
    with History.open(url) as history:
        put(history, tmp_path, run_id="2026-aaa")
        put(history, tmp_path, run_id="2026-bbb")
        assert history.find("bbb").run_id == "2026-bbb"
        for wanted in ("2026", "%", "_", "nope"):
            with pytest.raises(UsageError):
                history.find(wanted)


def test_it_can_be_opened_twice_at_once(url, tmp_path):
    """Several boxes and a person."""
    with History.open(url) as one, History.open(url) as two:
        put(one, tmp_path)
        assert two.count() == 1


def test_the_migrations_make_what_a_new_history_is_made_of(url):
    """Column by column, keys and indexes; and HEAD is the newest migration."""
    History.open(url).__exit__(None, None, None)
    engine = connected(url)
    with engine.begin() as connection:
        made = shape(connection)
        assert made.keys() == {*schema.metadata.tables, "alembic_version"}
        schema.metadata.drop_all(connection)
        connection.execute(sa.text("DROP TABLE alembic_version"))
        migrate(connection, LAYOUT)
        assert shape(connection) == made
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        assert version == schema.HEAD
    engine.dispose()


def test_a_history_of_a_later_harness_is_left_alone(url):
    """It is told apart from one that is older."""
    History.open(url).__exit__(None, None, None)
    engine = connected(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(InfrastructureError, match="9999"):
        History.open(url)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", UsageError),
        ("nosuch://x", UsageError),
        ("sqlite:////nonexistent/folder/x.db", InfrastructureError),
        ("postgresql://u:secret@/x?host=/nonexistent", InfrastructureError),
        ("mysql://localhost/x", MissingCapability),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url, error):
    """And nothing of the library's shows through."""
    with pytest.raises(error) as raised:
        History.open(url)
    assert "secret" not in str(raised.value)


def _said(capsys, *words: str) -> tuple[int, str]:
    return run_command_line(["history", *words]), capsys.readouterr().out


def test_the_command_line_lists_shows_compares_and_draws(url, tmp_path, capsys, monkeypatch):
    """Every subcommand as text, and for programs as JSON or CSV."""
    monkeypatch.setenv("HARNESS_HISTORY_URL", url)
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path))
    for number in range(3):
        a_folder(tmp_path, a_run(run_id=f"run-{number}", overhead_s=0.01 * (number + 1),
                                 started_at=START + timedelta(days=number)))  # fmt: skip
    assert _said(capsys, "import") == (0, "3 runs imported\n")
    assert "run-2  PASS" in _said(capsys)[1]
    listed = json.loads(_said(capsys, "list", "--json", "--since", "2026-01-02")[1])
    assert [run["run_id"] for run in listed["runs"]] == ["run-2", "run-1"]
    assert listed["runs"][0]["overhead_s"] == 0.03
    assert _said(capsys, "list", "--csv")[1].splitlines()[1].startswith("run-2,2026-01-03T")
    assert "residual_s" in _said(capsys, "show", "run-1")[1]
    compared = _said(capsys, "compare", "run-0", "run-2")[1]
    assert re.search(r"^\(run\) +overhead_s +10\.0 ms +30\.0 ms +\+200 %$", compared, re.M)
    assert re.search(r"overhead_s +20\.0 ms$", _said(capsys, "show", "run-1")[1], re.M)
    shown = _said(capsys, "show", "run-1")[1]
    assert re.search(r"check\.clock +200 µs$", shown, re.M)
    assert "[]" not in shown
    picture = tmp_path / "trend.svg"
    assert "30.0 ms     █" in _said(capsys, "trend", "overhead_s", "--plot", str(picture))[1]
    assert picture.read_text().startswith("<svg")
    assert "Overhead of the pause window" in picture.read_text()
    assert _said(capsys, "trend", "nosuch")[0] == 2
    run_command_line(["history", "trend", "overhead_s", "--guest", "gone"])
    assert "did you mean" not in capsys.readouterr().err  # it is the word that was typed
    assert _said(capsys, "list", "--since", "yesterday-ish")[0] == 2


@pytest.mark.parametrize("ending", [".jpg", ".svgz", ""])
def test_a_plot_of_an_unknown_format_is_refused_with_the_list(url, tmp_path, capsys, monkeypatch,
                                                              ending):  # fmt: skip
    """Before anything is looked at; it was SVG whatever the file was called."""
    monkeypatch.setenv("HARNESS_HISTORY_URL", url)
    file = tmp_path / f"trend{ending}"
    code = run_command_line(["history", "trend", "overhead_s", "--plot", str(file)])
    said = capsys.readouterr().err
    assert code == 2
    assert "--plot" in said
    assert f"'{file.name}'" in said
    assert ".svg, .png, .pdf" in said
    assert not file.exists()


def test_a_regression_fails_the_command_only_where_asked(url, tmp_path, capsys, monkeypatch):
    """Six quiet nights, then one that costs ten times as much."""
    monkeypatch.setenv("HARNESS_HISTORY_URL", url)
    with History.open(url) as history:
        for number in range(6):
            put(history, tmp_path, run_id=f"run-{number}", overhead_s=0.010 + number / 10_000,
                started_at=START + timedelta(days=number))  # fmt: skip
        quiet, out = _said(capsys, "verdict", "--fail-on-regression")
        assert quiet == 0, out
        put(history, tmp_path, run_id="tonight", overhead_s=0.1,
            started_at=START + timedelta(days=6))  # fmt: skip
    code, out = _said(capsys, "verdict")
    assert code == 0
    assert "WORSE overhead_s: 0.1 s, usually 0.01025 s" in out
    code, out = _said(capsys, "verdict", "--fail-on-regression", "--json")
    assert code == 1
    data = json.loads(out)
    assert [one["figure"] for one in data["figures"] if one["worse"]] == ["overhead_s"]


def test_only_comparable_nights_are_compared(url, tmp_path):
    """Another host, another accelerator, a failed run, a warm-up: none of them counts."""
    from harness.results.history.verdict import judge

    with History.open(url) as history:
        for number in range(8):
            put(history, tmp_path, run_id=f"run-{number}",
                started_at=START + timedelta(days=number),
                host="other" if number == 0 else "box",
                accelerator="kvm" if number == 1 else "tcg",
                outcome=Outcome.FAIL if number == 2 else Outcome.PASS,
                label="warm-up" if number == 3 else "run")  # fmt: skip
        assert judge(history).nights == 3
        assert judge(history).compared == ()


def test_no_more_nights_are_read_than_are_compared(url, tmp_path, monkeypatch):
    """A history of years costs a verdict no more than one of weeks; each night may have runs."""
    from harness.results.history import store
    from harness.results.history.verdict import judge

    read = []
    monkeypatch.setattr(store, "_run", lambda row, real=store._run: read.append(row) or real(row))
    noon = START.replace(hour=12, minute=0)
    with History.open(url) as history:
        for night in range(9):
            for minutes in (-1, 0):  # noon begins a night
                put(history, tmp_path, run_id=f"run-{night}-{minutes}",
                    started_at=noon + timedelta(days=night, minutes=minutes))  # fmt: skip
        verdict = judge(history, nights=6)
    assert verdict.run_ids == ("run-8-0",)
    assert verdict.nights == 6
    assert len(verdict.compared) > 0
    # The newest, its night's, two runs of each of six nights, and the one that is of a seventh.
    assert len(read) == 1 + 1 + 2 * 6 + 1
