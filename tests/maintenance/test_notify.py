"""People are told how a run ended, by a real process to a real listener; guests are in memory."""

from __future__ import annotations

import json

import pytest

from harness.testing.listener import listening
from tests.maintenance.test_output import process as process


@pytest.mark.parametrize(
    ("wrong", "code", "event"), [("fine", 0, "run finished"), ("stuck", 4, "guests stranded")]
)
def test_a_run_tells_how_it_ended(process, tmp_path, wrong, code, event):
    """Once, with the guest that is still paused."""
    with listening() as there:
        with open(tmp_path / "house.toml", "a") as file:
            file.write(f'[notify]\nwebhook = "{there.url}"\n')
        done = process(wrong)
    assert done.returncode == code, done.stderr.decode()
    [one] = there.taken
    told = json.loads(one.body)
    assert (told["event"], told["exit_code"]) == (event, code)
    paused = [guest["name"] for guest in told["guests"] if guest["still_paused"]]
    assert paused == (["web1"] if code else [])


def test_a_listener_that_is_ill_changes_nothing(process, tmp_path):
    """A warning; exit code and record are those of the run."""
    with listening(500) as there:
        with open(tmp_path / "house.toml", "a") as file:
            file.write(f'[notify]\nwebhook = "{there.url}"\ntimeout_s = 0.5\n')
        done = process("fine")
    assert done.returncode == 0
    assert b"warning: nobody was told by webhook" in done.stderr


def test_what_cannot_be_told_is_refused_before_the_run(process, tmp_path):
    """Nothing was paused for it."""
    with open(tmp_path / "house.toml", "a") as file:
        file.write('[notify]\ncommand = ["./gone"]\n')
    done = process("fine")
    assert done.returncode == 2
    assert b"notify.command: ./gone: no such program" in done.stderr
    assert not list(tmp_path.glob("state/runs/*"))
