"""Who only looks at a lock keeps no one out: real readers beside real holders, in processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.core import file_locks
from harness.core.errors import EventError, JournalError, UsageError
from harness.core.file_locks import hold, is_held
from harness.core.timebase import Deadline
from harness.events.server import is_served, sole_server
from harness.lab import state as lab_state
from harness.results.journal import Journal
from harness.results.journal.file import in_use

#: Looks without a pause; tells when it has seen a free and a held lock 100 times each.
LOOKING = """
import os, sys
from harness.core.file_locks import is_held
file = os.open(sys.argv[1], os.O_RDWR)
seen = [0, 0]
print(flush=True)
while True:
    seen[is_held(file)] += 1
    if min(seen) >= 100:
        seen = [0, 0]
        print(flush=True)
"""
LOCKS = {"journal": "journal.jsonl", "server": "events-server.lock", "lab": "lab/lock"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A state folder, of the lab too."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path))
    return tmp_path


def holders(folder: Path) -> dict[str, Callable[[], object]]:
    """What takes and releases each lock once; raises if it cannot."""

    def journal() -> None:
        with Journal(folder, "run-1"):
            assert in_use(folder / "journal.jsonl")

    def server() -> None:
        with sole_server(folder):
            assert is_served(folder)

    def lab() -> None:
        with lab_state.claimed():
            assert lab_state.is_held()

    return {"journal": journal, "server": server, "lab": lab}


@contextmanager
def looking(lock: Path) -> Iterator[Callable[[], bool]]:
    """A process that looks all the time; whether it has seen both states often by now."""
    command = [sys.executable, "-P", "-c", LOOKING, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"\n"
            os.set_blocking(reader.stdout.fileno(), False)
            yield lambda: bool(reader.stdout and reader.stdout.read())
        finally:
            reader.kill()


def take_often(folder: Path, what: str, times: int) -> None:
    """So many times, and until the reader has seen both states; raises if it is refused."""
    take = holders(folder)[what]
    take()
    with looking(folder / LOCKS[what]) as has_seen_both:
        deadline = Deadline.after(60)
        taken, seen = 0, False
        while taken < times or not seen:
            deadline.check(f"looking, {taken} times")
            take()
            taken += 1
            seen = seen or has_seen_both()


@pytest.mark.parametrize("what", LOCKS)
def test_who_only_looks_keeps_no_one_out(folder, what):
    """From a new run's journal, the place of the events server, the lab's."""
    take_often(folder, what, 500)


@pytest.mark.parametrize("what", LOCKS)
def test_without_patience_a_look_would_keep_it_out(folder, what, monkeypatch):
    """So that the test above can fail."""
    monkeypatch.setattr(file_locks, "_LOOKED_AT_S", 0.0)
    with pytest.raises((JournalError, EventError, UsageError)):
        take_often(folder, what, 1_000_000)


def test_a_holder_that_stays_is_told_of(tmp_path):
    """After the time that a look may take; and a second look is in nobody's way."""
    first, second = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        assert not is_held(second)
        hold(first)
        assert is_held(second)
        with pytest.raises(BlockingIOError):
            hold(second)
    finally:
        os.close(first)
    assert not is_held(second)
    hold(second)
    os.close(second)
