"""The intent log: on disk before the pause, readable after a crash."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from harness.core.errors import JournalError
from harness.results.journal import Journal, read


def test_an_intent_is_on_disk_file_and_folder_when_intend_returns(tmp_path, monkeypatch):
    """Both the file and the folder that names it are fsync'd."""
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))
    )
    with Journal(tmp_path, "r1") as journal:
        journal.intend("pausing", guests=["web1"])
    assert synced == [str(tmp_path / "journal.jsonl"), str(tmp_path)]


def test_entries_say_who_what_and_when_in_order(tmp_path):
    """Run id, pid and boot clock."""
    with Journal(tmp_path, "r1") as journal:
        journal.intend("pausing", guests=["a; touch x"])
        journal.note("paused")
    first, second = read(tmp_path / "journal.jsonl")
    assert (first["event"], first["guests"]) == ("pausing", ["a; touch x"])
    assert (second["event"], second["run_id"], second["pid"]) == ("paused", "r1", os.getpid())
    assert second["boottime_ns"] >= first["boottime_ns"]


def test_a_torn_last_line_is_left_out(tmp_path):
    """A power cut in the middle of a write loses that line only."""
    with Journal(tmp_path, "r1") as journal:
        journal.intend("pausing")
        journal.intend("paused")
    file = tmp_path / "journal.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert [entry["event"] for entry in read(file)] == ["pausing"]


def test_damage_before_the_last_line_is_an_error(tmp_path):
    """A journal that was tampered with is not half-believed."""
    file = tmp_path / "journal.jsonl"
    file.write_text('{"event": "a"\n{"event": "b"}\n')
    with pytest.raises(JournalError, match="line 1 is damaged"):
        read(file)


def test_a_full_disk_refuses_the_intent_but_not_the_note(tmp_path, monkeypatch):
    """No journal, no pause; but while guests are paused a full disk holds nothing up."""
    with Journal(tmp_path, "r1") as journal:
        monkeypatch.setattr(os, "write", lambda fd, data: len(data) // 2)
        with pytest.raises(JournalError, match="nothing will be paused"):
            journal.intend("pausing")
        journal.note("resuming")
        assert journal.lost == ["resuming: No space left on device"]


def test_who_comes_too_late_writes_into_nobody_elses_file(tmp_path):
    """A thread that was given up comes back when the run is over, and its descriptors are taken."""
    with Journal(tmp_path, "r1") as journal:
        journal.note("resuming")
    ours = journal.path.read_text()
    with ExitStack() as stack:
        theirs = [stack.enter_context(open(tmp_path / str(n), "wb")) for n in range(4)]
        journal.note("resumed")
        with pytest.raises(JournalError, match="Bad file descriptor"):
            journal.intend("pausing")
        assert [os.fstat(file.fileno()).st_size for file in theirs] == [0] * 4
    assert journal.lost == ["resumed: Bad file descriptor"]
    assert journal.path.read_text() == ours


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    """The journal fails when it is opened, long before a pause."""
    with pytest.raises(JournalError, match="cannot write"):
        Journal(tmp_path / "missing", "r1")
