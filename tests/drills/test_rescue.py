"""The guardian rescues whatever broke before: the run alone is killed, after a fault was laid.

Requires: the session's lab. Leaves behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from harness.core.timebase import Deadline, NotYet, Stopwatch, wait_for
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
        for what, look in (("the update", "^sleep 311"), ("the guardian", "pause.guardian ")):
            wait_for(lambda look=look: _nobody(look), what=what, deadline=Deadline.after(20))
    assert harness("clock", "correct", guest.name).code == 0


def _nobody(pattern: str) -> None:
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True).stdout
    if found:
        raise NotYet(f"{pattern} lives: {found}")
