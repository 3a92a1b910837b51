"""How many descriptors and threads are left: of this process, of hosts that are written down."""

from __future__ import annotations

import os
import resource
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.core.headroom import Headroom, Limit, headroom


@contextmanager
def soft_limit(which: int, value: int):
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


def host(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def on(tmp_path: Path, files: dict[str, str]) -> Headroom:
    found = host(tmp_path, files)
    return headroom(found / "proc", found / "cgroup")


def test_every_descriptor_that_is_opened_is_one_less():
    used = len(os.listdir("/proc/self/fd"))
    with soft_limit(resource.RLIMIT_NOFILE, used + 100):
        before = headroom().descriptors
        taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
        after = headroom().descriptors
        for one in taken:
            os.close(one)
    assert before.left - after.left == 10
    assert f"ulimit -n, which is {used + 100}" == after.by


def test_this_host_has_room_for_a_thread():
    assert threading.active_count() < headroom().threads.left


def test_the_nearest_group_on_the_way_up_counts(tmp_path):
    """The slice above has less left than the service itself."""
    found = on(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/nightly.service\n",
            "proc/loadavg": "0.1 0.2 0.3 2/900 4711\n",
            "proc/sys/kernel/threads-max": "100000\n",
            "cgroup/system.slice/nightly.service/pids.max": "max\n",
            "cgroup/system.slice/nightly.service/pids.current": "5\n",
            "cgroup/system.slice/pids.max": "512\n",
            "cgroup/system.slice/pids.current": "500\n",
        },
    )
    assert found.threads.left == 12
    assert found.threads.by.endswith("cgroup/system.slice/pids.max, which is 512")


def test_a_group_of_the_old_kind_counts_too(tmp_path):
    """Version 1: one tree for each controller; what the other trees hold is no limit of threads."""
    found = on(
        tmp_path,
        {
            "proc/self/cgroup": "9:name=systemd:/u\n8:pids:/u\n4:memory:/u\n0::/\n",
            "cgroup/pids/u/pids.max": "40\n",
            "cgroup/pids/u/pids.current": "15\n",
            "cgroup/memory/u/pids.max": "3\n",
        },
    )
    assert found.threads == Limit(25, f"{tmp_path}/cgroup/pids/u/pids.max, which is 40")


@pytest.mark.parametrize("name", ["threads-max", "pid_max"])
def test_the_kernel_has_a_limit_for_all(tmp_path, name):
    found = on(
        tmp_path,
        {"proc/loadavg": "0 0 0 2/900 4711\n", f"proc/sys/kernel/{name}": "1000\n"},
    )
    assert found.threads == Limit(100, f"kernel.{name}, which is 1000")


def test_more_than_all_that_may_be_is_none_left(tmp_path):
    """A group's limit that was lowered below what is there."""
    files = {
        "proc/self/cgroup": "0::/x\n",
        "cgroup/x/pids.max": "5\n",
        "cgroup/x/pids.current": "9\n",
    }
    assert on(tmp_path, files).threads.left == 0


@pytest.mark.parametrize("text", ["", "nonsense", "0 0 0\n", "0 0 0 2/x 1\n", "\udcff"])
def test_what_cannot_be_read_is_no_limit(tmp_path, text):
    files = {"proc/sys/kernel/pid_max": "1000\n"}
    found = host(tmp_path, files)
    (found / "proc/loadavg").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert headroom(found / "proc", found / "cgroup").threads is None


def test_another_user_than_root_is_held_to_its_own_limit(tmp_path, monkeypatch):
    """Threads of all its processes count, those of others do not, nor one that has just ended."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    files = {
        "proc/11/status": "Name:\tharness\nUid:\t1000\t1000\t1000\t1000\nThreads:\t7\n",
        "proc/12/status": "Name:\tinit\nUid:\t0\t0\t0\t0\nThreads:\t3\n",
        "proc/13/comm": "gone",
    }
    with soft_limit(resource.RLIMIT_NPROC, 20):
        found = on(tmp_path, files)
    assert found.threads == Limit(13, "ulimit -u, which is 20")
