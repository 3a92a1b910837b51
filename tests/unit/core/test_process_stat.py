"""Which process is which, and whether one is surely no more: real processes of this machine."""

from __future__ import annotations

import os
import subprocess

import pytest

from harness.core.process_stat import has_ended, is_same_process, start_ticks


@pytest.fixture
def child():
    """A process that ends when its input is closed."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    yield process
    process.stdin.close()
    process.wait(10)


def test_a_process_that_lives_has_not_ended(child):
    """Nor is another of its pid the same one."""
    ticks = start_ticks(child.pid)
    assert not has_ended(child.pid, ticks)
    assert has_ended(child.pid, ticks + 1)


def test_one_that_ended_has_ended_whether_it_was_waited_for_or_not(child):
    """A zombie has no memory any more."""
    ticks = start_ticks(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert has_ended(child.pid, ticks)
    child.wait(10)
    assert has_ended(child.pid, ticks)
    assert not is_same_process(child.pid, ticks)


def test_one_that_proc_does_not_show_is_asked_of_the_kernel(child, tmp_path):
    """``hidepid`` hides processes of others, which then are not called gone."""
    ticks = start_ticks(child.pid)
    assert not has_ended(child.pid, ticks, tmp_path)
    child.kill()
    child.wait(10)
    assert has_ended(child.pid, ticks, tmp_path)
