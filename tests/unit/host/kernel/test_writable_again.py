"""Who watches over disks while a kernel is left: it acts if the one that leaves it has died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict

import pytest

from harness.core.errors import UpdateFailed
from harness.core.timebase import Deadline
from harness.host.kernel import read_only, writable_again
from harness.host.mounts import Mount

ROOT = Mount("/", "8:1", ("rw", "relatime"), ("rw", "errors=remount-ro"))
ARMED, DISARMED = json.dumps([asdict(ROOT)]), "[]"


@pytest.fixture
def done(monkeypatch):
    """What was done about file systems, in order."""
    found: list[object] = []
    monkeypatch.setattr(read_only, "await_read_only", lambda: found.append("waited"))
    monkeypatch.setattr(read_only, "make_writable", found.append)
    return found


def test_disks_are_written_to_again_if_who_was_to_leave_is_gone(done):
    """Not before the kernel has made them read-only: it would do so afterwards."""
    writable_again.watch([ARMED])
    assert done == ["waited", [ROOT]]


@pytest.mark.parametrize("lines", [[], [DISARMED], [ARMED, DISARMED]])
def test_disks_that_nobody_left_behind_are_left_alone(done, lines):
    """The run never came so far, or had them written to again itself."""
    writable_again.watch(lines)
    assert done == []


#: Leaves what it is told to a watch, and is killed.
DIES = """
import os, signal, sys
from harness.core.timebase import Deadline
from harness.host.kernel.writable_again import Watch
watch = Watch()
watch.require(Deadline.after(30))
print(watch._process.pid, os.getsid(watch._process.pid), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_watches_in_a_session_of_its_own_and_ends_with_the_pipe():
    """A signal to the run's group does not reach it; without a run there is nothing to wait for."""
    done = subprocess.run([sys.executable, "-c", DIES], stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == -signal.SIGKILL
    pid, session = map(int, done.stdout.split())
    assert pid == session
    until = Deadline.after(20)
    while os.path.exists(f"/proc/{pid}"):
        assert not until.expired
    watch = writable_again.Watch()
    watch.require(Deadline.after(30))
    watch.arm([ROOT])
    watch.disarm()
    watch.close()
    watch.disarm()


def test_one_that_does_not_start_is_told_before_a_guest_is_paused(tmp_path):
    with pytest.raises(UpdateFailed, match="No such file"):
        writable_again.Watch(str(tmp_path / "python"))
    with pytest.raises(UpdateFailed, match="did not start"):
        writable_again.Watch("/bin/false").require(Deadline.after(10))
