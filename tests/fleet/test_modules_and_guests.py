"""Modules on the real command and a real guest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress

import pytest

from harness.core.errors import JournalError
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec
from harness.results.journal import read
from harness.testing.required import required
from tests.clocks import set_right
from tests.fleet.playbooks import HARNESS
from tests.fleet.tasks import Here

pytestmark = [pytest.mark.timeout(600), pytest.mark.guest]
CHECK = {"check_mode": True, "diff": True}
#: Emulated guests on a busy machine; a clock that was not corrected is further off.
JUDGED = {"tolerance": "1s"}
LAG_S = 5
#: Killed in its pause, however slow this machine is.
LONG = {"duration": "100s", "budget": "200s"}


@pytest.fixture
def here(newest, tmp_path, monkeypatch):
    """This machine, with a lab of one guest, whose clock is right."""
    if os.environ.get("HARNESS_NAMESPACE") != "inside":
        why = "not inside scripts/in-namespace"
        if required("guest"):
            pytest.fail(why)
        pytest.skip(why)
    found = Here(newest, tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
        lab = labs.up([GuestSpec("one", "tiny")], deadline=Deadline.after(240), progress=print)
        try:
            set_right(["one"], lab.config_file)
            yield found
        finally:
            labs.down(print)


def die_in_the_pause(here: Here, rollout: str) -> None:
    """Kill a run of the rollout while its guest is paused; its guardian lives."""
    options = [f"--{name}={value}" for name, value in LONG.items()]
    words = [HARNESS, "run", "one", "--rollout", rollout, *options]
    with (here.folder / "dies.log").open("wb") as log:
        run = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    runs = here.folder / "state" / "runs"
    before = set(runs.glob("*"))

    def look() -> None:
        for one in set(runs.glob("*")) - before:
            with suppress(JournalError, OSError):
                if "paused" in [line.event for line in read(one / "journal.jsonl").lines]:
                    return
        raise NotYet((here.folder / "dies.log").read_text())

    try:
        wait_for(look, what="a pause", deadline=Deadline.after(120), interval_s=0.1)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait(30)


def test_a_maintenance_its_record_a_wrong_clock_and_a_run_that_dies(here):
    part = {"rollout": "r1", "guests": ["one"], "duration": "500ms"}
    lag = {"guests": ["one"], "duration": f"{LAG_S}s", "extra_options": ["--no-correct"]}

    told = here.play(
        {"doctor_info": {"guests": ["one"]}},
        {"maintenance": part, **CHECK},
        {"maintenance": part},
        {"maintenance": part},
        {"run_info": {}},
        {"maintenance": {**lag, "rollout": "r2"}},
        {"guest_clock": {**JUDGED, "state": "measured"}},
        {"guest_clock": JUDGED, **CHECK},
        {"guest_clock": JUDGED},
        {"guest_clock": JUDGED},
    )

    looked, foreseen, done, again, newest, lagging, slow, judged, corrected, right = told.results
    assert looked["usable"], looked["problems"]
    assert foreseen["domains"][0]["guests"] == ["one"]
    assert ": pause one" in told.played.out
    assert (done["outcome"], done["changed"]) in (("pass", True), ("fail", True)), done
    assert done["guests"][0]["pause_window_s"] >= 0.5
    assert (again["already"], again["changed"]) == (True, False)
    assert newest["record"]["run_id"] == done["run_id"] == again["run_id"]
    assert lagging["changed"]
    for one in (slow, judged):
        assert one["failed"]
        assert not one["changed"]
        assert "one: " in one["msg"]
    assert (corrected["changed"], corrected["exit_code"]) == (True, 0)
    assert right["exit_code"] == 0
    assert right["guests"][0]["name"] == "one"

    die_in_the_pause(here, "r3")
    told = here.play(
        {"maintenance": {"rollout": "r3", "guests": ["one"], **LONG}},
        {"recovery": {}, "check_mode": True},
        {"recovery": {}},
        {"recovery": {}},
        {"guest_clock": JUDGED},
    )
    died, foreseen, recovered, nothing, right = told.results
    assert died["failed"]
    assert "recover" in died["msg"]
    assert foreseen["changed"]
    assert recovered["changed"]
    (guest,) = recovered["runs"][0]["guests"]
    assert (guest["name"], guest["paused"]) == ("one", False)
    assert (nothing["changed"], nothing["runs"]) == (False, [])
    assert right["exit_code"] == 0, json.dumps(right)
