"""The guardian rescues whatever broke before: the run alone is killed, after a fault was laid.

Requires: the session's lab. Leaves behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.faults import FAULTS, Place
from harness.core.timebase import Deadline, NotYet, Stopwatch, wait_for
from harness.lab import daemon, state
from tests.drills.conftest import PAUSED, RUNNING, becomes, state_of

#: Of malloc: nothing is free by chance, so what is needed without memory has to have been kept.
TIGHT = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_TOP_PAD_": "0", "MALLOC_ARENA_MAX": "1"}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_guardian_rescues_whatever_broke_before(maintenance, libvirt, lab, harness, fault):
    """The guest runs at once, the update's processes are ended, and the guardian ends."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--update", "sleep 311", **TIGHT)
    run.until("paused")
    guardian = run.guardian
    with FAULTS[fault](Place(run.state_dir, run.folder, guardian)):
        assert state_of(libvirt, guest.uuid) is PAUSED
        run.kill()
        watch = Stopwatch()
        becomes(libvirt, guest.uuid, RUNNING, within_s=2.0)
        assert watch.elapsed_s() < 2
        run.ended()
        for pattern in ("^sleep 311", "pause.guardian "):
            wait_for(partial(_nobody, pattern), what=pattern, deadline=Deadline.after(20))
    assert harness("clock", "correct", guest.name).code == 0


def _nobody(pattern: str) -> None:
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True).stdout
    if found:
        raise NotYet(f"{pattern} lives: {found}")


#: Restarts libvirtd as its own child, tells the new pid, and hangs.
RESTARTS_LIBVIRTD = """#!/bin/sh
kill {pid}
while [ -e /proc/{pid}/exe ]; do sleep 0.01; done  # a zombie has none
libvirtd >/dev/null 2>&1 &
echo $! > {file}.new && mv {file}.new {file}
sleep 312
"""


@pytest.fixture
def restarting(tmp_path):
    """An update that restarts the lab's libvirtd and hangs; and the file with the new pid."""
    libvirtd = state.load().daemons[-1]
    file, script = tmp_path / "libvirtd.pid", tmp_path / "restart.sh"
    script.write_text(RESTARTS_LIBVIRTD.format(pid=libvirtd.pid, file=file))
    script.chmod(0o755)
    yield script, file
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(file.read_text()), signal.SIGTERM)
        wait_for(lambda: _nobody("^libvirtd"), what="its end", deadline=Deadline.after(20))
    started = daemon._start("libvirtd", state.lab_dir(), None)
    lab = state.load()
    state.save(replace(lab, daemons=(*lab.daemons[:-1], started)))


@pytest.mark.parametrize("who", ["the run", "the guardian"])
def test_a_libvirtd_that_the_update_restarted_is_not_ended_with_the_update(
    maintenance, libvirt, lab, harness, restarting, who
):
    """The guest runs in time, the update's processes are ended, libvirtd answers."""
    script, file = restarting
    guest = lab.guests[0]
    run = maintenance(guest.name, "--update", str(script), "--budget", "13")
    run.until("paused")
    wait_for(lambda: _exists(file), what="the restart", deadline=Deadline.after(20))
    if who == "the guardian":
        run.kill()
    code = run.ended()
    assert code in (3, -signal.SIGKILL), run.err
    becomes(libvirt, guest.uuid, RUNNING, within_s=5.0)
    wait_for(partial(_nobody, "^sleep 312"), what="the update", deadline=Deadline.after(20))
    wait_for(partial(_nobody, "pause.guardian "), what="guardian", deadline=Deadline.after(20))
    assert Path("/proc", file.read_text().strip(), "comm").read_text() == "libvirtd\n"
    assert state_of(libvirt, guest.uuid) is RUNNING
    if who == "the run":
        assert run.record.guests[0].pause_window_s < 13
        assert not run.record.guests[0].still_paused
    else:
        assert run.recover()[0] == 0
    assert harness("clock", "correct", guest.name).code == 0


def _exists(file: Path) -> None:
    if not file.exists():
        raise NotYet(str(file))
