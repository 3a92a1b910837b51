"""A night: what is run, what is not run any more, and how it is summed up."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from datetime import timedelta
from pathlib import Path

import pytest

from harness.cli.finding import Finding, Level
from harness.cli.main import run_command_line
from harness.cli.night_files import NightFiles
from harness.cli.nightly import Night, look_back, publish, spend
from harness.core.errors import (
    ConfigError,
    ConnectionLost,
    GuestStranded,
    InfrastructureError,
    PlanError,
)
from harness.core.records import Outcome
from harness.maintenance.run import Finished
from harness.results.history.store import History
from harness.results.report import prometheus
from harness.testing.runs import HOSTILE, START, a_folder, a_guest, a_run

UNITS = Path(__file__).parents[3] / "packaging" / "systemd"


class Box:
    """Maintenances that end as a test wants them to."""

    def __init__(self, state_dir: Path, *outcomes: Outcome | Exception, day: int = 0) -> None:
        self.state_dir = state_dir
        self.left = list(outcomes)
        self.day = day
        self.runs = 0
        self.overhead_s = 0.012

    def rehearse(self, label: str) -> Finished:
        end = self.left.pop(0)
        error = end if isinstance(end, GuestStranded) else None
        if isinstance(end, Exception) and error is None:
            raise end
        outcome = end if isinstance(end, Outcome) else Outcome.ERROR
        started_at = START + timedelta(days=self.day, minutes=self.runs)
        record = a_run(
            a_guest(outcome=outcome),
            run_id=f"run-{self.day}-{self.runs}",
            outcome=outcome,
            started_at=started_at,
            overhead_s=self.overhead_s if self.runs else 5.0,
            label=label,
        )
        self.runs += 1
        if error:
            record = record.model_copy(update={"exit_code": 4})
        return Finished(record, a_folder(self.state_dir, record), error)

    def night(self, findings=(), repeat: int = 3) -> Night:
        return spend(findings=findings, rehearse=self.rehearse, finish=lambda folder: [],
                     repeat=repeat, say=lambda line: None)  # fmt: skip


@pytest.fixture(autouse=True)
def history(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HISTORY_URL", f"sqlite:///{tmp_path / 'h.db'}")


PASS, FAIL = Outcome.PASS, Outcome.FAIL


def test_a_good_night_is_one_good_line(tmp_path):
    """The warm-up, which was slow, is not in it."""
    night = Box(tmp_path, PASS, PASS, PASS).night()
    night = look_back(night, nights=14, fail_on_regression=True)
    assert night.exit_code == 0
    assert night.summary("box") == (
        "harness PASS on box: 2/2 runs of 1 guest good, paused 5.012 s, residual 200 µs; "
        "0 nights to compare with"
    )
    with History.open() as known:
        assert [run.label for run in known.newest()] == ["nightly", "nightly", "warm-up"]


def test_a_box_with_a_problem_is_not_touched(tmp_path):
    """doctor comes first."""
    box = Box(tmp_path, PASS)
    night = box.night([Finding("libvirt", Level.PROBLEM, "does not answer")])
    assert (box.runs, night.exit_code) == (0, 3)
    assert night.summary("box") == "harness ERROR on box: libvirt: does not answer"


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (FAIL, 1, "FAIL"),
        (ConnectionLost("gone", operation="x"), 3, "ERROR"),
        (InfrastructureError("disk"), 3, "ERROR"),
        (GuestStranded(["web1"]), 4, "STILL PAUSED"),
    ],
)
def test_after_a_run_that_is_not_healthy_there_is_no_other(tmp_path, end, code, said):
    """And the loudest of all exit codes is the night's."""
    box = Box(tmp_path, PASS, end, PASS)
    night = box.night()
    assert (len(box.left), night.exit_code) == (1, code)
    assert night.summary("box").startswith(f"harness {said} on box: ")


def test_a_night_that_got_worse_fails_where_asked(tmp_path):
    """And says which figure, by how much."""
    for day in range(6):
        quiet = Box(tmp_path, PASS, PASS, PASS, day=day).night()
        quiet = look_back(quiet, nights=14, fail_on_regression=True)
        assert quiet.exit_code == 0
    slow = Box(tmp_path, PASS, PASS, PASS, day=6)
    slow.overhead_s = 0.12
    night = slow.night()
    night = look_back(night, nights=14, fail_on_regression=True)
    assert night.exit_code == 1
    assert "WORSE overhead_s: 0.12 s, usually 0.012 s (+900 %" in night.summary("box")
    night = publish(night, NightFiles(tmp_path / "h.prom", tmp_path / "j.xml"))
    metrics = (tmp_path / "h.prom").read_text()
    assert 'figure="overhead_s"} 1.0' in metrics
    assert value(metrics, "harness_night_success") == 0
    assert [said.partition(",")[0] for said in red(tmp_path / "j.xml")] == ["overhead_s: 0.12 s"]


def value(metrics: str, name: str) -> float:
    """The one value of a metric."""
    (found,) = re.findall(rf"^{name}\{{.*\}} (.+)$", metrics, re.MULTILINE)
    return float(found)


def red(file: Path) -> list[str]:
    """What the cases say that did not pass."""
    root = ET.parse(file).getroot()
    bad = [one for one in root.iter() if one.tag in ("failure", "error")]
    assert (int(root.get("failures")) + int(root.get("errors")) > 0) == bool(bad)
    return [one.get("message") for one in bad]


@pytest.fixture
def files(tmp_path):
    """Where a night's files are, with last night's good ones in their places."""
    found = NightFiles(tmp_path / "h.prom", tmp_path / "j.xml", ("web1",))
    publish(Box(tmp_path / "last", PASS).night(repeat=1), found)
    assert value(found.prometheus.read_text(), "harness_run_success") == 1
    assert value(found.prometheus.read_text(), "harness_night_success") == 1
    assert red(found.junit) == []
    return found


def test_a_night_that_could_not_begin_leaves_red_files(tmp_path, files):
    """doctor found something: nothing of last night is left that could pass for tonight's."""
    finding = Finding("guest web1", Level.PROBLEM, "is paused (user)")
    publish(Box(tmp_path / "now", PASS).night([finding]), files)
    metrics = files.prometheus.read_text()
    assert value(metrics, "harness_run_success") == value(metrics, "harness_night_success") == 0
    assert value(metrics, "harness_night_exit_code") == 3
    assert "harness_check_success" not in metrics
    assert "harness_duration_seconds" not in metrics
    assert set(red(files.junit)) == {"guest web1: is paused (user)"}
    assert {one.get("name") for one in ET.parse(files.junit).iter("testsuite")} == {
        "web1",
        "harness",
    }


@pytest.mark.parametrize("end", [ConnectionLost("gone", operation="x"), PlanError("refused")])
def test_a_good_run_does_not_hide_that_the_next_could_not_begin(tmp_path, files, end):
    """The night's exit code is not 0, and neither file is green."""
    night = Box(tmp_path / "now", PASS, PASS, end).night()
    assert night.exit_code != 0
    night = publish(night, files)
    metrics = files.prometheus.read_text()
    assert value(metrics, "harness_run_success") == value(metrics, "harness_night_success") == 0
    assert value(metrics, "harness_run_exit_code") == night.exit_code
    assert any(str(end) in said for said in red(files.junit))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("cannot be read"), 2),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a bug"), 3),
    ],
)
def test_whatever_ends_a_night_its_files_say_so(files, error, code):
    """Which goes on its way."""
    with pytest.raises(type(error)):
        with files.replaced():
            assert red(files.junit), "red already: a night that is killed leaves no green file"
            raise error
    assert value(files.prometheus.read_text(), "harness_night_exit_code") == code
    assert red(files.junit)


def test_files_that_cannot_be_written_are_known_before_the_night(tmp_path):
    """And where that comes up in the end, the other one is written and the night is not good."""
    for wrong in (tmp_path / "none" / "h.prom", tmp_path):
        with pytest.raises(InfrastructureError, match="cannot write"):
            with NightFiles(prometheus=wrong).replaced():
                pytest.fail("the night began")
    night = Box(tmp_path, PASS).night(repeat=1)
    night = publish(night, NightFiles(tmp_path / "none" / "h.prom", tmp_path / "j.xml"))
    assert (tmp_path / "j.xml").exists()
    assert night.exit_code == 3


@pytest.mark.parametrize("words", [["--junit", "j.xml", "--budgt"], ["web1", "--junit=j.xml"]])
def test_what_a_refused_command_line_asks_for_is_found(words):
    """Also where the option is the last word."""
    assert NightFiles.asked_for(words) == NightFiles(junit=Path("j.xml"))
    assert NightFiles.asked_for([*words, "--prometheus"]) == NightFiles(junit=Path("j.xml"))


def test_a_history_that_is_away_is_a_warning(tmp_path, monkeypatch):
    """The runs were good all the same."""
    monkeypatch.setenv("HARNESS_HISTORY_URL", "sqlite:////nonexistent/x.db")
    night = Box(tmp_path, PASS).night(repeat=1)
    night = look_back(night, nights=14, fail_on_regression=True)
    assert (night.exit_code, len(night.warnings)) == (0, 1)


def test_metrics_can_be_read_by_a_collector_whatever_the_names_are(tmp_path):
    """Every line is a comment or `name{labels} value`; the file is readable for others."""
    file = tmp_path / "harness.prom"
    prometheus.write(file, prometheus.document(a_run(a_guest(HOSTILE)), []))
    label = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
    line = re.compile(rf"harness_[a-z_]+\{{(?:{label},?)*\}} -?[0-9.e+-]+")
    lines = file.read_text().splitlines()
    assert [one for one in lines if not one.startswith("# ") and not line.fullmatch(one)] == []
    assert file.stat().st_mode & 0o777 == 0o644
    assert any(one.startswith("harness_pause_window_seconds{") for one in lines)


def test_the_systemd_units_are_valid():
    """As systemd itself says; `env` stands for wherever harness is installed."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze")
    units = [str(path) for path in sorted(UNITS.iterdir())]
    assert [Path(unit).name for unit in units] == [
        "harness-events.service",
        "harness-nightly.service",
        "harness-nightly.timer",
    ]
    done = subprocess.run([program, "verify", "--man=no", *units], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_command_of_every_unit_is_one_that_there_is():
    """With the options that it is given."""
    started = []
    for unit in UNITS.glob("*.service"):
        (line,) = re.findall(r"^ExecStart=/usr/bin/env harness (.+)$", unit.read_text(), re.M)
        words = line.split()
        assert run_command_line([*words, "--help"]) == 0, line
        started.append(tuple(words[:2]))
    assert ("events", "serve") in started


def test_an_invalid_unit_would_be_noticed(tmp_path):
    """The verification can fail."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze")
    unit = tmp_path / "bad.service"
    unit.write_text("[Service]\nExecStart=relative/path\nNosuch=1\n")
    done = subprocess.run([program, "verify", "--man=no", unit], capture_output=True, text=True)
    assert done.returncode != 0 or done.stderr
