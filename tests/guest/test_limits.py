"""Limits: connections that libvirtd takes, and those of processes that are reached in a pause.

Requires: the session's lab. Leaves behind: nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from harness.core.paths import state_dir
from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState
from harness.maintenance.capacity import connections_of
from harness.results.folder import find_run
from harness.results.unfinished import dead_runs
from tests.clocks import set_right

TWO = ("tiny-1", "tiny-2")


def virt_admin(*words: str) -> str:
    """What libvirt's own program says of the lab's libvirtd."""
    done = subprocess.run(
        ["virt-admin", "-c", "libvirtd:///system", *words],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def more_connections(lab):
    """``more_connections(7)``: from now on libvirtd takes seven beside those that are there."""
    names = ("nclients_max", "nclients", "nclients_unauth_max")
    before = virt_admin("server-clients-info", "libvirtd")
    at_first, now, unknown = (int(re.search(rf"{name} *: (\d+)", before)[1]) for name in names)

    def take(clients: int, strangers: int) -> None:
        limits = ("--max-clients", str(clients), "--max-unauth-clients", str(strangers))
        virt_admin("server-clients-set", "libvirtd", *limits)

    yield lambda more: take(now + more, 2)
    take(at_first, unknown)


def test_more_guests_than_libvirtd_has_connections_for_are_refused(
    libvirt, harness, more_connections
):
    """By the plan and the run, not when a deadline has passed; `harness doctor` says it too."""
    more_connections(3)
    for command in (("plan",), ("run", "--duration", "1")):
        ended = harness(*command, *TWO)
        assert ended.code == 2, ended.err
        assert "max_clients of libvirtd" in ended.err
        assert "server-clients-set libvirtd" in ended.err
    found = {one["name"]: one for one in harness("doctor", *TWO, "--json").record["findings"]}
    assert found["libvirt's limits"]["level"] == "problem"
    for name in TWO:
        state = libvirt.state(libvirt.find(name, Deadline.after(10)).uuid, Deadline.after(10))
        assert state.state is GuestState.RUNNING


def test_as_many_connections_as_are_counted_do(lab, harness, more_connections):
    """Beside the two that a command begins with."""
    set_right(TWO, lab.config_file)
    more_connections(connections_of(2, largest=1) + 2)
    ended = harness("run", *TWO, "--duration", "1", "--json")
    assert ended.code == 0, ended.err


#: An update in whose pause the run and its guardian lose what they may have.
LOWERS = """
import itertools, os, resource, sys
from pathlib import Path

def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

def children(pid):
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

def lower(pid):
    if sys.argv[1] == "descriptors":  # as many as it has; of fewer it could not even poll those
        used = set(map(int, os.listdir(f"/proc/{pid}/fd")))
        kind, left = resource.RLIMIT_NOFILE, next(n for n in itertools.count() if n not in used)
    else:  # less than the stack of a thread
        status = Path(f"/proc/{pid}/status").read_text()
        kilobytes = int(next(n for n in status.splitlines() if n.startswith("VmSize")).split()[1])
        kind, left = resource.RLIMIT_AS, (kilobytes << 10) + (4 << 20)
    _, hard = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (left, hard))
    print("lowered", pid, flush=True)

run = int(sys.argv[2])
for pid in children(run):
    if pid not in (os.getpid(), parent(os.getpid())):
        lower(pid)
lower(run)
"""


@pytest.mark.parametrize("what", ["descriptors", "threads"])
def test_guests_are_resumed_when_a_limit_is_reached_in_their_pause(
    lab, libvirt, harness, script, tmp_path, what
):
    """Whatever else fails then: nobody stays paused, and none is said to be."""
    together = ("tiny-1", "debian-1")
    set_right(together, lab.config_file)
    program = tmp_path / "lowers.py"
    program.write_text(LOWERS)
    update = script(f'exec {sys.executable} {program} {what} "$PPID"')
    try:
        ended = harness("run", *together, "--update", update, "--json")
        for name in together:
            uuid = libvirt.find(name, Deadline.after(10)).uuid
            assert libvirt.state(uuid, Deadline.after(10)).state is GuestState.RUNNING, ended.err
        assert ended.code in (0, 1, 3), ended.err
        said = (find_run(state_dir(), None).path / "update-0.log").read_text()
        assert said.count("lowered") == 2, said + ended.err  # the run and its guardian
        assert not list(dead_runs(state_dir()))
    finally:
        set_right(together, lab.config_file)
