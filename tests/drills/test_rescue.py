"""The guardian rescues whatever broke before: the run alone is killed, after a fault was laid.

Requires: the session's lab. Leaves behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness.core.timebase import Deadline, NotYet, Stopwatch, wait_for
from harness.lab import daemon, state
from tests.drills.conftest import PAUSED, RUNNING, becomes, state_of


def _renamed(run, pid):
    run.state_dir.rename(run.state_dir.with_name("elsewhere"))


def _deleted(run, pid):
    shutil.rmtree(run.state_dir)


def _linked(run, pid):
    _renamed(run, pid)
    other = run.state_dir.with_name("other")
    other.mkdir()
    run.state_dir.symlink_to(other)


def _truncated(run, pid):
    os.truncate(run.folder / "journal.jsonl", 0)


def _append(run, line: bytes) -> None:
    with open(run.folder / "journal.jsonl", "ab") as file:
        file.write(line)


def _a_list(run, pid):
    _append(run, b"[]\n")


def _odd_lines(run, pid):
    _append(run, b'{"event": "resumed"}\n{"event": 7}\nnull\n\xff\xfe\n{"event": "pausing"}\n{"ev')


def _no_descriptors(run, pid):
    """What is open stays open; nothing can be opened."""
    most = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))


def _no_memory(run, pid):
    """No thread can be started either: its stack has no room."""
    size_kib = int(re.search(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
    resource.prlimit(pid, resource.RLIMIT_AS, (size_kib * 1024, size_kib * 1024))


@contextmanager
def _no_tasks(run, pid) -> Iterator[None]:
    """pids.max of the guardian's control group is reached."""
    hierarchy = run.state_dir.with_name("pids")
    hierarchy.mkdir()
    subprocess.run(["mount", "-t", "cgroup", "-o", "pids", "pids", hierarchy], check=True)
    group = hierarchy / f"harness-drill-{os.getpid()}-{pid}"
    try:
        group.mkdir()
        (group / "cgroup.procs").write_text(str(pid))
        (group / "pids.max").write_text("1")
        yield
        wait_for(lambda: _remove(group), what="the guardian's end", deadline=Deadline.after(20))
    finally:
        subprocess.run(["umount", "--lazy", hierarchy], check=True)


def _remove(group: Path) -> None:
    try:
        group.rmdir()
    except OSError as error:
        raise NotYet(str(error)) from error


FAULTS = {
    "the state folder is renamed": _renamed,
    "the state folder is deleted": _deleted,
    "the state folder is a link to another": _linked,
    "the journal is truncated": _truncated,
    "the journal holds a list": _a_list,
    "the journal holds odd lines": _odd_lines,
    "no descriptors": _no_descriptors,
    "no memory, no threads": _no_memory,
    "pids.max": _no_tasks,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_guardian_rescues_whatever_broke_before(maintenance, libvirt, lab, harness, fault):
    """The guest runs at once, the update's processes are ended, and the guardian ends."""
    guest = lab.guests[0]
    run = maintenance(guest.name, "--update", "sleep 311")
    run.until("paused")
    guardian = run.guardian
    with FAULTS[fault](run, guardian) or nullcontext():
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
