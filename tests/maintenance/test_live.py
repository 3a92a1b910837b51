"""What a person sees of a run on a terminal, and what Ctrl-C does: a real process on a real pty."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.maintenance.in_memory import DRIVER, in_folder
from tests.maintenance.test_output import CONFIG, RUN, record_in
from tests.terminal import CTRL_C, on_a_terminal

#: It prints its steps, the last of them with control characters, and goes on for long.
UPDATE = """#!/bin/sh
echo unpacking
printf 'setting up 1 %%\\rsetting up \\033[31m42 %%\\n\\n'
exec sleep 60
"""
DOMAINS = """
[[guest]]
name = "web1"
update_domain = "a"
[[guest]]
name = "web2"
update_domain = "b"
"""


@pytest.fixture
def run(tmp_path):
    """`harness run` on a terminal, of two guests in update domains a and b."""
    update = tmp_path / "update"
    update.write_text(UPDATE)
    update.chmod(0o755)
    config = CONFIG.replace(
        'kind = "stand-in"\nduration_s = 0.3',
        f'kind = "command"\nscope = "guest"\ncommand = ["{update}"]',
    )
    config = config.replace("budget_s = 3.0", "budget_s = 30.0")
    (tmp_path / "house.toml").write_text(config + DOMAINS)
    words = ["run", "web1", "web2", "--no-report", "-c", "house.toml"]

    @contextmanager
    def started(wrong="fine"):
        command = [sys.executable, "-P", "-c", DRIVER, wrong, *words]
        with on_a_terminal(command, tmp_path, in_folder(tmp_path)) as terminal:
            yield terminal

    return started


def test_the_update_is_seen_at_work_and_ctrl_c_ends_all_of_it_cleanly(run, tmp_path):
    """Its last line while guests are paused; then who was resumed, who was not begun, exit 130."""
    with run() as terminal:
        terminal.until("setting up \\x1b[31m42 %")
        assert "update domain 1 of 2: paused; applying the update" in terminal.screen
        assert "unpacking" not in terminal.text.splitlines()[-1]
        terminal.type(CTRL_C)
        terminal.until(" of 2: SIGINT: ")
        assert terminal.end() == 130
    said = "harness: interrupted by SIGINT; 1 guest resumed, 0 paused (checked); not begun: web2"
    assert said in terminal.screen
    # Nothing of the view is left, and the cursor is there again.
    for gone in ("phase", "SIGINT: ", "setting up", "^C", "Traceback"):
        assert gone not in terminal.screen
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
    record = record_in(tmp_path)
    assert record.exit_code == 130
    assert record.guests[0].clock.after_correction is not None


def test_it_moves_before_there_is_a_plan_and_ctrl_c_ends_that_too(run, tmp_path):
    """libvirt has not answered yet; nothing was paused, and nothing of the view is left."""
    with run("mute") as terminal:
        frames = 0
        while len(set(re.findall(r"qemu:///system and its guests  (\d+) s", terminal.text))) < 2:
            frames += 1
            terminal.until("looking at qemu:///system and its guests", frames)
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    assert "interrupted" in terminal.screen
    assert "looking at" not in terminal.screen
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
    assert list(tmp_path.glob("state/runs/*")) == []


def test_a_run_that_could_not_log_in_says_once_why_a_line_a_guest(run, tmp_path):
    """Table and error are on the same terminal. A file has the table alone, and all of it."""
    with run("strangers") as terminal:
        assert terminal.end() == 3
    lines = [line.strip() for line in terminal.screen.splitlines()]
    for name in ("web1", "web2"):
        told = [line for line in lines if line.startswith(f"{name}: its host key")]
        assert len(told) == 1, terminal.screen
    assert "harness: 2 guests:" in lines
    command = [sys.executable, "-P", "-c", DRIVER, "strangers", *RUN]
    done = subprocess.run(
        command, cwd=tmp_path, env=in_folder(tmp_path), capture_output=True, text=True, timeout=60
    )
    for said in (done.stdout, done.stderr):
        assert said.count("web1: its host key") == 1, said


#: Says where the result will be, as a run does whose kernel is replaced, and ends as that does.
LEAVES = """
import os, signal
from harness.cli.commands.common import err
from harness.cli.live import watching
from harness.maintenance.plan import Plan
from harness.maintenance.progress import Phase, Step
with watching(Plan(()), 30.0, 2.0, err()) as observe:
    observe(Step(Phase.NOTE, "the result is in: harness report 3f9a2c"))
    observe(Step(Phase.PREPARING, "logging in"))
    observe(Step(Phase.PAUSED, "paused; applying the update"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_to_be_read_after_the_end_stays_on_the_terminal(tmp_path):
    """Above the table, and once; the terminal is all that is left of a run that ends so."""
    words = [sys.executable, "-P", "-c", LEAVES]
    with on_a_terminal(words, tmp_path, in_folder(tmp_path)) as terminal:
        assert terminal.end() == -9
        assert terminal.screen.count("the result is in: harness report 3f9a2c") == 1
