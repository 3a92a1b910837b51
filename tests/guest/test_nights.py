"""What is made of many runs, on real guests: nights, experiments, a user's own tests, a hold.

Requires: the session's lab. Leaves behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

from harness.core.paths import state_dir
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.lifecycle import GuestState

USERS_TESTS = """
import pytest

QUICK = {"update.duration_s": 0.3}

def test_it_survives(maintenance):
    result = maintenance("tiny-1", budget_s=20, settings=QUICK)
    assert result.passed, result.error
    assert result.guest("tiny-1").downtime_s < 10
    assert abs(result.guest("tiny-1").offset_s) < 0.05

def test_it_does_not(maintenance):
    assert maintenance("tiny-1", settings={**QUICK, "clock.correct": False}).passed
"""


def test_a_night_is_one_line_and_one_exit_code(harness, tmp_path):
    """doctor, a warm-up, a run, their reports and rows, the verdict, metrics."""
    metrics = tmp_path / "harness.prom"
    night = ("nightly", "tiny-1", "--repeat", "2", "--duration", "0.3")
    ended = harness(*night, "--prometheus", str(metrics), "--json")
    assert ended.code == 0, (ended.out, ended.err)
    assert ended.record["summary"].startswith("harness PASS on ")
    rows = harness("history", "list", "--json").record["runs"]
    labels = {run["run_id"]: run["label"] for run in rows}
    warm_up, counted = ended.record["run_ids"]
    assert (labels[warm_up], labels[counted]) == ("warm-up", "nightly")
    assert "harness_run_success" in metrics.read_text()


def test_a_night_that_breaks_a_promise_is_red(harness):
    """The budget is over before libvirt has paused anybody; there is no second run."""
    limits = ("--budget", "0.002", "--reserve", "0.001", "--duration", "0", "--expected", "0.0005")
    ended = harness("nightly", "tiny-1", "--repeat", "3", *limits, "--json")
    assert ended.code not in (0, 2), (ended.out, ended.err)
    assert len(ended.record["run_ids"]) == 1


def test_a_night_whose_guest_is_paused_replaces_last_nights_files(harness, libvirt, tmp_path):
    """Somebody paused it: doctor refuses, and neither file is green any more."""
    metrics, junit = tmp_path / "harness.prom", tmp_path / "night.xml"
    night = ("nightly", "tiny-1", "--repeat", "1", "--duration", "0.3")
    files = ("--prometheus", str(metrics), "--junit", str(junit))
    assert harness(*night, *files).code == 0
    assert 'errors="0"' in junit.read_text().splitlines()[1]
    uuid = libvirt.find("tiny-1", Deadline.after(10)).uuid
    libvirt.pause(uuid, Deadline.after(10))
    try:
        ended = harness(*night, *files)
    finally:
        libvirt.resume(uuid, Deadline.after(10))
    assert ended.code == 3, (ended.out, ended.err)
    assert re.search(r"^harness_run_success\{.*\} 0\.0$", metrics.read_text(), re.MULTILINE)
    assert 'errors="0"' not in junit.read_text().splitlines()[1]
    assert "is paused" in junit.read_text()


def test_a_users_own_tests_pause_real_guests_and_can_fail(lab, tmp_path):
    """As pytest runs them that finds the plugin by itself."""
    (tmp_path / "test_mine.py").write_text(USERS_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", f"--harness-config={lab.config_file}"]
    done = subprocess.run(
        [*command, "--junit-xml=out.xml", "-p", "no:cacheprovider"],
        cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "clock FAIL" in done.stdout
    assert 'name="harness_run_id"' in (tmp_path / "out.xml").read_text()


def test_an_experiment_on_real_guests_is_tidy(harness, tmp_path):
    """Two cells of one guest each."""
    sweep = tmp_path / "sweep.toml"
    sweep.write_text('[grid]\nguests = [["tiny-1"]]\nupdate.duration_s = [0.2, 0.4]\n')
    ended = harness("experiment", str(sweep), "--json")
    assert (ended.code, ended.record["done"]) == (0, 2), ended.err
    assert (state_dir() / "runs").exists()


def test_a_hold_gives_the_shell_back_and_the_guests_go_on(harness, libvirt):
    """Paused when the command returns, which `status` tells; INT has them go on at once."""
    ended = harness("hold", "--budget", "2m", "tiny-1", "--json")
    assert ended.code == 0, ended.err
    (run,) = harness("status", "--json").record["running"]
    assert run["run_id"] == ended.record["run_id"]
    assert [(one["name"], one["custody"]) for one in run["held"]] == [("tiny-1", "paused")]
    assert 0 < run["held"][0]["left_s"] < 120
    deadline = Deadline.after(90)
    uuid = libvirt.find("tiny-1", deadline).uuid
    assert libvirt.state(uuid, deadline).state is GuestState.PAUSED
    ends_it = f"kill -INT {ended.record['pid']}"
    assert f"a maintenance (hold) of tiny-1, run {run['run_id']}" in harness("run", "tiny-2").err
    for refused in (harness("run", "tiny-1"), harness("run", "tiny-2")):
        assert (refused.code, ends_it in refused.err) == (3, True), refused.err
    os.kill(ended.record["pid"], signal.SIGINT)

    def over() -> None:  # it has the host until its report is made
        now = harness("status", "--json").record
        if now["running"] or now["holder"]:
            raise NotYet("the run goes on")

    wait_for(over, what="the hold", deadline=deadline)
    assert libvirt.state(uuid, deadline).state is GuestState.RUNNING
