"""Experiments: the grid, its order, going on after an interruption, tidy results."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import threading
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from harness.cli import hold as holding
from harness.cli.experiment.conduct import DONE, Experiment
from harness.cli.experiment.summary import summary
from harness.cli.experiment.sweep import load
from harness.cli.experiment.tidy import write
from harness.core.background import start_in_background
from harness.core.errors import (
    ConfigError,
    GuestStranded,
    InfrastructureError,
    Interrupted,
    PlanError,
    UpdateFailed,
)
from harness.core.keys import list_keys
from harness.core.records import Outcome
from harness.core.settings import Config
from harness.core.timebase import Deadline
from harness.events.order import Order
from harness.testing.runs import HOSTILE, a_folder, a_guest, a_run
from harness.updates.hold import HoldSettings, HoldUpdate
from harness.updates.registry import FULL_CONFIG

SWEEP = """
repeats = 2
seed = 7
[settings]
budget_s = 20.0
[grid]
guests = [["a"], ["a", "b"]]
update.duration_s = [1.0, 2.0]
clock.correct = [true, false]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(SWEEP)
    return path


class Box:
    """Maintenances that are only written down."""

    def __init__(self, state_dir, *, stop_after: int = 1000, error: Exception | None = None):
        self.state_dir, self.stop_after, self.error = state_dir, stop_after, error
        self.configs: list[Config] = []

    def rehearse(self, config, guests):
        if len(self.configs) == self.stop_after and isinstance(self.error, PlanError):
            raise self.error
        self.configs.append(config)
        outcome = Outcome.PASS if config.clock.correct else Outcome.FAIL
        residual_s = 0.001 * len(self.configs)
        record = a_run(*(a_guest(name, outcome, residual_s=residual_s) for name in guests),
                       outcome=outcome,
                       run_id=f"run-{len(list(self.state_dir.glob('runs/*')))}")  # fmt: skip
        error = self.error if len(self.configs) == self.stop_after else None
        return SimpleNamespace(record=record, folder=a_folder(self.state_dir, record), error=error)


def conduct(experiment: Experiment, box: Box):
    said: list[str] = []
    return experiment.conduct(Config(), box.rehearse, said.append), said


def test_the_grid_is_every_combination_in_an_order_that_can_be_had_again(file):
    """Shuffled by the seed: the same for the same seed, another for another."""
    sweep = load(file)
    cells = sweep.cells(7)
    assert len(cells) == 2 * 2 * 2 * 2
    assert len({(c.repeat, c.guests, tuple(c.settings.items())) for c in cells}) == 16
    assert cells == sweep.cells(7)
    assert cells != sweep.cells(8)
    assert [c.repeat for c in cells] != sorted(c.repeat for c in cells)


def test_each_cell_is_run_with_its_settings(file, tmp_path):
    """Over those of the file, over those of harness.toml."""
    experiment = Experiment(load(file), tmp_path)
    box = Box(tmp_path)
    error, said = conduct(experiment, box)
    assert error is None
    assert {c.budget_s for c in box.configs} == {20.0}
    assert [(getattr(c.update, "duration_s", None), c.clock.correct) for c in box.configs] == [
        tuple(cell.settings.values()) for cell in experiment.cells
    ]
    assert said[0].startswith("0 of 16 done: guests=")
    assert re.fullmatch(r"(PASS|FAIL) after .*, run run-0", said[1])
    assert "left" in said[2]
    links = sorted((experiment.folder / "runs").iterdir())
    assert len(links) == 16
    assert all((link / "run.json").exists() for link in links)


@pytest.mark.parametrize(
    "error", [Interrupted("SIGINT", "no guest was paused"), GuestStranded(["a"]), PlanError("no")]
)
def test_an_interrupted_experiment_goes_on_where_it_was(file, tmp_path, error):
    """No cell is done twice, none is left out, the order stays."""
    first = Box(tmp_path, stop_after=5, error=error)
    ended, _ = conduct(Experiment(load(file), tmp_path), first)
    assert ended is error
    again = Experiment(load(file), tmp_path)
    kept = 5 if isinstance(error, PlanError) else 4  # a run that was interrupted is no result
    assert len(again.done) == kept
    assert conduct(again, Box(tmp_path))[0] is None
    assert sorted(one.cell.number for one in again.done) == list(range(16))
    assert Experiment(load(file), tmp_path).left == []


def test_in_the_end_each_cell_is_a_row_with_what_came_of_it(file, tmp_path):
    """Repeats together: how many, how they ended, the median and how far apart they were."""
    experiment = Experiment(load(file), tmp_path)
    conduct(experiment, Box(tmp_path))
    rows = summary(experiment)
    assert len(rows) == 8
    assert {row[0] for row in rows} == {cell.described() for cell in experiment.cells}
    assert {(row[1], row[2]) for row in rows} == {("2", "2 PASS"), ("2", "2 FAIL")}
    assert all(row[2] == ("2 PASS" if "correct=True" in row[0] else "2 FAIL") for row in rows)
    assert {row[3] for row in rows} == {"5.012 s"}  # all alike
    assert all(re.fullmatch(r"\S+ ms \(\S+ to \S+\)", row[5]) for row in rows)
    shutil.rmtree(experiment.run_folder(experiment.done[0]).path)
    assert sorted(row[1] for row in summary(experiment)) == ["1", *["2"] * 7]


def test_a_seed_that_was_drawn_is_kept(file, tmp_path):
    """Otherwise the order would be another after an interruption."""
    file.write_text(SWEEP.replace("seed = 7", ""))
    assert Experiment(load(file), tmp_path).seed == Experiment(load(file), tmp_path).seed


def test_a_torn_line_costs_one_cell(file, tmp_path):
    """A power cut while a line was written."""
    experiment = Experiment(load(file), tmp_path)
    conduct(experiment, Box(tmp_path))
    done = experiment.folder / DONE
    done.write_text("{}\n" + done.read_text()[:-9])
    again = Experiment(load(file), tmp_path)
    assert len(again.left) == 1
    conduct(again, Box(tmp_path))
    assert Experiment(load(file), tmp_path).left == []


def test_another_sweep_is_another_experiment(file, tmp_path):
    """What was done for one content is no result of another."""
    conduct(Experiment(load(file), tmp_path), Box(tmp_path))
    file.write_text(SWEEP.replace("2.0", "3.0"))
    assert len(Experiment(load(file), tmp_path).left) == 16


def test_results_are_tidy_in_csv_and_parquet(file, tmp_path):
    """One row a guest and run, one column a variable; hostile names too."""
    file.write_text(SWEEP.replace('["a"]', json.dumps([HOSTILE])))
    experiment = Experiment(load(file), tmp_path)
    conduct(experiment, Box(tmp_path))
    files, warnings = write(experiment)
    assert warnings == []
    with open(files[0], newline="") as source:
        rows = list(csv.DictReader(source))
    assert len(rows) == 8 * 1 + 8 * 2
    assert {row["clock.correct"] for row in rows} == {"True", "False"}
    table = pq.read_table(files[1])
    assert table.num_rows == 24
    assert {"guest", "residual_s", "method", "update.duration_s"} <= set(table.column_names)
    # One method and one length of pause: a picture by those would compare nothing.
    assert {f.name for f in files[2:]} == {"overhead-by-guests.svg"}
    picture = files[2].read_text()
    assert picture.startswith("<svg")
    assert ">Overhead of the pause window, by guests<" in picture
    assert ">box: 16 runs<" in picture
    assert ">ms; bar: median<" in picture
    assert "var(--fail)" in picture  # half of them were not corrected, and failed


def test_any_setting_of_several_words_may_be_an_axis(file):
    """Of whatever kind of update: read off the settings, and kept in no list."""
    file.write_text(
        '[grid]\nupdate.packages = [["a"], ["a", "b"]]\nclock.methods = [["slew"], ["step"]]'
    )
    assert [cell.settings["update.packages"] for cell in load(file).cells(1)].count(["a"]) == 2
    assert {"update.command", "update.verify", "update.rollback", "update.hold"} < set(
        list_keys(FULL_CONFIG)
    )
    assert "checks.own" not in list_keys(FULL_CONFIG)  # a list, but of sections


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[grid]\nupdate.packages = ["a"]', "list of lists"),
        ("[grid]\nupdate.duratio_s = [1.0]", "unknown axis"),
        ("[grid]\nclock.correct = true", "list of values"),
        ('[grid]\nguests = ["a"]', "list of lists"),
        ('[grid]\nupdate.command = ["a"]', "list of lists"),
        ("repeats = 0", "greater than or equal to 1"),
        ("repeat = 1", "not permitted"),
        ("[grid", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_sweep_is_named(file, text, said):
    """With the file and the key, before anything is paused."""
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load(file)


def test_a_value_that_makes_no_sense_is_found_before_the_first_run(file, tmp_path):
    """Not after an hour."""
    file.write_text("[grid]\nbudget_s = [20.0, 1.0]")
    box = Box(tmp_path)
    with pytest.raises(ConfigError, match="leaves nothing"):
        conduct(Experiment(load(file), tmp_path), box)
    assert box.configs == []


def test_a_hold_ends_before_its_deadline_or_when_it_is_abandoned():
    """Guests are resumed in time either way."""
    update = HoldUpdate(HoldSettings())
    update.prepare(None, None)
    deadline = Deadline.after(0.4)
    assert update.apply(None, deadline).detail == "held"
    assert deadline.remaining_s() > 0
    threading.Timer(0.1, update.abandon).start()
    with pytest.raises(UpdateFailed):
        update.apply(None, Deadline.after(30))


#: A ``harness run`` that only writes a journal, as far as it gets.
PRETENDER = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1]) / "runs" / "r1"
folder.mkdir(parents=True)
(folder / "run.json").write_text("{}")
events = [{"event": "pausing", "guests": [{"name": "a", "uuid": "u"}]},
          {"event": "paused", "guest": "a", "uuid": "u"}]
for event in events[: int(sys.argv[2])]:
    with open(folder / "journal.jsonl", "a") as file:
        file.write(json.dumps({**event, "pid": os.getpid()}) + "\\n")
print("harness: it ended", flush=True)
time.sleep(float(sys.argv[3]))
"""


def _pretender(events: int, seconds: float):
    def launch(order, config_file, log):
        words = [sys.executable, "-c", PRETENDER, str(log.parent), str(events), str(seconds)]
        return start_in_background(words, log)

    return launch


def test_the_shell_comes_back_when_everybody_is_paused(tmp_path):
    """And the run goes on in the background."""
    pretender = _pretender(2, 60)
    held = holding.hold(Order(("a",)), None, tmp_path, Deadline.after(30), pretender)
    assert held.guests == ("a",)
    held.process.kill()
    held.process.wait()


def test_a_hold_that_pauses_nobody_says_why(tmp_path):
    """With the last words of the run."""
    with pytest.raises(InfrastructureError, match="it ended"):
        holding.hold(Order(), None, tmp_path, Deadline.after(30), _pretender(1, 0))


def test_what_is_to_be_held_is_handed_on_as_data(tmp_path):
    """A real process, to its exit code: it has the guests, the file and the settings."""
    file = tmp_path / "mine.toml"
    file.write_text('uri = "test:///default"\n')
    order = Order(("no; such",), {"budget_s": 7.0})
    with pytest.raises(InfrastructureError, match="no; such") as told:
        holding.hold(order, file, tmp_path, Deadline.after(60))
    assert "nothing is held" in str(told.value)
    order = Order((), {"budget_s": 0.5})
    with pytest.raises(InfrastructureError, match="--budget: .* nothing of a budget of 0.5 s"):
        holding.hold(order, file, tmp_path, Deadline.after(60))
