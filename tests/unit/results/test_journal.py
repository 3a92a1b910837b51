"""The intent log: on disk before the pause, readable after a crash."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from harness.core.errors import JournalError
from harness.results.journal import Journal, Member, entries, fold, read

WEB = Member("web1", "uuid-web1")
HOSTILE = Member("a; touch x", "uuid\n")


def test_an_intent_is_on_disk_file_and_folder_when_intend_returns(tmp_path, monkeypatch):
    """Both the file and the folder that names it are fsync'd."""
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))
    )
    with Journal(tmp_path, "r1") as journal:
        journal.intend(entries.Pausing((WEB,)))
    assert synced == [str(tmp_path / "journal.jsonl"), str(tmp_path)]


def test_entries_say_who_what_and_when_in_order(tmp_path):
    """Run id, pid and boot clock."""
    with Journal(tmp_path, "r1") as journal:
        journal.intend(entries.Pausing((HOSTILE,)))
        journal.note(entries.Rescue("why"))
    reading = read(tmp_path / "journal.jsonl")
    first, second = reading.lines
    assert reading.entries == (entries.Pausing((HOSTILE,)), entries.Rescue("why"))
    assert (second.event, second.run_id, second.pid) == ("rescue", "r1", os.getpid())
    assert second.boottime_ns >= first.boottime_ns > 0
    assert second.realtime_ns >= first.realtime_ns > 0


def test_a_torn_last_line_is_left_out(tmp_path):
    """A power cut in the middle of a write loses that line only."""
    with Journal(tmp_path, "r1") as journal:
        journal.intend(entries.Pausing((WEB,)))
        journal.intend(entries.Rescue())
    file = tmp_path / "journal.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    reading = read(file)
    assert (reading.entries, reading.notices) == ((entries.Pausing((WEB,)),), ())


def test_it_reads_itself_also_when_its_folder_was_replaced(tmp_path):
    """By the descriptor that it has; another file of its name is not believed."""
    folder = tmp_path / "run"
    folder.mkdir()
    with Journal(folder, "r1") as journal:
        journal.intend(entries.Pausing((WEB,)))
        folder.rename(tmp_path / "away")
        folder.mkdir()
        (folder / "journal.jsonl").write_text("[]\n")
        assert fold(journal.read()).held == (WEB,)
    with pytest.raises(JournalError, match="cannot read"):
        journal.read()


def test_a_full_disk_refuses_the_intent_but_not_the_note(tmp_path, monkeypatch):
    """No journal, no pause; but while guests are paused a full disk holds nothing up."""
    with Journal(tmp_path, "r1") as journal:
        monkeypatch.setattr(os, "write", lambda fd, data: len(data) // 2)
        with pytest.raises(JournalError, match="nothing will be paused"):
            journal.intend(entries.Pausing((WEB,)))
        journal.note(entries.Resuming("run", (WEB,)))
        assert journal.lost == ["resuming: No space left on device"]


def test_who_comes_too_late_writes_into_nobody_elses_file(tmp_path):
    """A thread that was given up comes back when the run is over, and its descriptors are taken."""
    with Journal(tmp_path, "r1") as journal:
        journal.note(entries.Resuming("run", (WEB,)))
    ours = journal.path.read_text()
    with ExitStack() as stack:
        theirs = [stack.enter_context(open(tmp_path / str(n), "wb")) for n in range(4)]
        journal.note(entries.Resumed("web1", "uuid-web1", "run"))
        with pytest.raises(JournalError, match="Bad file descriptor"):
            journal.intend(entries.Pausing((WEB,)))
        assert [os.fstat(file.fileno()).st_size for file in theirs] == [0] * 4
    assert journal.lost == ["resumed: Bad file descriptor"]
    assert journal.path.read_text() == ours


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    """The journal fails when it is opened, long before a pause."""
    with pytest.raises(JournalError, match="cannot write"):
        Journal(tmp_path / "missing", "r1")
