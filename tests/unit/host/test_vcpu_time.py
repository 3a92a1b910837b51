"""CPU time of vCPU threads, on threads of this process that bear their names."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from harness.core.process_stat import start_ticks
from harness.core.timebase import Deadline
from harness.host.child_process import StatusLost, UpdateProcess
from harness.host.driver import LibvirtHypervisor
from harness.host.protocol import ProcessIdentity
from harness.host.qemu_process import _executes_qemu


@pytest.fixture
def hypervisor():
    """The driver on libvirt's own fake, which has no processes."""
    opened = LibvirtHypervisor.open("test:///default", Deadline.after(10))
    yield opened
    opened.close()


def test_the_time_of_all_threads_with_a_vcpus_name_counts(hypervisor):
    """None where no thread has one, and of a process that is gone."""
    me = ProcessIdentity(os.getpid(), start_ticks(os.getpid()))
    assert hypervisor.vcpu_time_ns(me) is None
    named, over = threading.Event(), threading.Event()

    def vcpu() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("CPU 0/TCG")
        sum(range(100_000))
        named.set()
        over.wait(30)

    thread = threading.Thread(target=vcpu)
    thread.start()
    try:
        assert named.wait(30)
        assert hypervisor.vcpu_time_ns(me) > 0
        assert hypervisor.main_thread_time_ns(me) > 0
    finally:
        over.set()
        thread.join()
    done = subprocess.Popen(["true"])
    done.wait()
    assert hypervisor.vcpu_time_ns(ProcessIdentity(done.pid, 1)) is None
    assert hypervisor.main_thread_time_ns(ProcessIdentity(done.pid, 1)) is None


def test_a_child_whose_end_nobody_can_tell_is_an_error(tmp_path, monkeypatch):
    """The kernel has reaped it by itself, so its status is lost; nothing stays open."""

    def gone(pid: int) -> int:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr(os, "pidfd_open", gone)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(StatusLost):
        UpdateProcess(("true",), {}, "mark", tmp_path / "output")
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_process_that_may_not_be_looked_at_is_judged_by_the_rest(tmp_path, monkeypatch):
    """Its owner and libvirt's word have to do where the executable is another user's secret."""

    def denied(path: object) -> str:
        raise PermissionError(13, "Permission denied")

    os.symlink("/usr/bin/python3", tmp_path / "exe")
    assert not _executes_qemu(tmp_path)
    monkeypatch.setattr(os, "readlink", denied)
    assert _executes_qemu(tmp_path)
