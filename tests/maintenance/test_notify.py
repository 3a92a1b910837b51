"""People are told how a run ended, by a real process to a real listener; guests are in memory."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from harness import api
from harness.cli import telling
from harness.testing.listener import listening
from tests.maintenance.recovery.test_recover import REFUSED, killed
from tests.maintenance.test_output import process as process
from tests.maintenance.updates import raising


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
    assert b"warning: no notification by webhook" in done.stderr


def test_what_cannot_be_told_is_refused_before_the_run(process, tmp_path):
    """Nothing was paused for it."""
    with open(tmp_path / "house.toml", "a") as file:
        file.write('[notify]\ncommand = ["./gone"]\n')
    done = process("fine")
    assert done.returncode == 2
    assert b"notify.command: ./gone: no such program" in done.stderr
    assert not list(tmp_path.glob("state/runs/*"))


def test_recover_tells_of_a_guest_that_it_cannot_resume_once(house, monkeypatch):
    """By the dead run's own settings; when it is run again there is nothing new to tell."""
    monkeypatch.setattr("harness.core.paths.known_state_dirs", lambda: ())
    at = house("web1")
    at.host.before["resume", "web1"] = raising(REFUSED)
    with listening() as there:
        killed(at, notify__webhook=there.url)
        at.host.before["resume", "web1"] = raising(REFUSED)
        backend = api.Backend(lambda config: nullcontext(at.host), at.connector)
        for _ in range(2):
            found = api.recover(at.state_dir, backend=backend)
            assert found.still_paused == ["web1"]
            assert telling.of_recovery(found.runs) == []
    [one] = there.taken
    told = json.loads(one.body)
    assert (told["event"], told["exit_code"]) == ("guests stranded", 4)
    assert [guest["name"] for guest in told["guests"]] == ["web1"]
    assert "harness recover could not resume" in told["problems"][0]
