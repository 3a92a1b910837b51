"""Dead runs are found by their journals, and a folder that cannot be searched is no empty one."""

from __future__ import annotations

import fcntl
import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import JournalError
from harness.core.identity import boot_id
from harness.core.timebase import SYSTEM_CLOCK
from harness.results.journal import FILE_NAME, Journal, fold, in_use, read, says_ended
from harness.results.unfinished import dead_runs, how_it_ended, journals_that_know, search

INTENT = {"event": "pausing", "guests": [{"name": "a", "uuid": "uuid-a"}]}


def a_run(state_dir, run_id: str, *told: dict) -> None:
    folder = state_dir / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / FILE_NAME).write_text("".join(json.dumps(one) + "\n" for one in told))


def test_a_run_is_found_by_its_journal_alone(tmp_path):
    """Newest first; one that has ended, or goes on, is not dead; a folder without one is no run."""
    a_run(tmp_path, "1", INTENT)
    a_run(tmp_path, "2", INTENT, {"event": "run finished"})
    a_run(tmp_path, "3", INTENT)
    a_run(tmp_path, "4", INTENT)
    (tmp_path / "runs" / "5").mkdir()
    with Journal(tmp_path / "runs" / "4", "4"):
        assert [one.run_id for one in dead_runs(tmp_path)] == ["3", "1"]


def test_a_run_that_left_its_kernel_did_not_end_unexpectedly(tmp_path):
    """It is finished by the next one; where that was not reached it is a run as any other."""
    leaving = {"event": "leaving", "release": "6.12", "boot_id": "b"}
    then = {"event": "run started", "boot_id": "b"}
    now = {"event": "run started", "boot_id": boot_id()}
    a_run(tmp_path, "1", then, INTENT)
    a_run(tmp_path, "2", then, INTENT, leaving)
    a_run(tmp_path, "3", then, INTENT, leaving, {"event": "stayed"})
    a_run(tmp_path, "5", now, INTENT, leaving)  # killed between that and the kexec
    (tmp_path / "runs" / "4").mkdir()
    (tmp_path / "runs" / "4" / FILE_NAME).write_bytes(b"\xff")
    said = {one.run_id: how_it_ended(one).partition(";")[0] for one in dead_runs(tmp_path)}
    left = "was handed over to another kernel, where harness-complete.service finishes it"
    died = "ended unexpectedly"
    assert said == {"1": died, "2": left, "3": died, "4": died, "5": died}
    assert all("harness recover" in how_it_ended(one) for one in dead_runs(tmp_path))


def test_a_folder_that_cannot_be_searched_says_why(tmp_path, monkeypatch):
    """One that is not there has no runs."""
    found = search(tmp_path / "none")
    assert (found.dead, found.refused, found.there) == ((), None, False)
    assert search(tmp_path).there

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    found = search(tmp_path)
    assert (found.dead, found.refused) == ((), "Permission denied")


def test_which_runs_know_a_guest(tmp_path):
    """Dead or not; what cannot be read says nothing."""
    a_run(tmp_path, "1", INTENT, {"event": "run finished"})
    a_run(tmp_path, "2", {"event": "run started"})
    (tmp_path / "runs" / "3" / FILE_NAME).mkdir(parents=True)
    assert [one.run_id for one in journals_that_know("uuid-a", [tmp_path])] == ["1"]
    assert list(journals_that_know("uuid-b", [tmp_path])) == []


def test_who_looks_whether_a_run_is_dead_keeps_nobody_from_carrying_it_on(tmp_path):
    """A lock for an instant; who really holds it is waited for in vain."""
    with Journal(tmp_path, "run"):
        pass
    with open(tmp_path / FILE_NAME) as looks:
        fcntl.flock(looks, fcntl.LOCK_SH)  # as in_use does
        over = threading.Timer(0.1, fcntl.flock, (looks, fcntl.LOCK_UN))
        over.start()
        with Journal(tmp_path, "run"):
            assert in_use(tmp_path / FILE_NAME)
        over.join()
    began_ns = SYSTEM_CLOCK.monotonic_ns()
    with Journal(tmp_path, "run"), pytest.raises(JournalError, match="another process"):
        Journal(tmp_path, "run")
    assert SYSTEM_CLOCK.monotonic_ns() - began_ns < 10e9


@pytest.mark.parametrize("odd", ["a FIFO", "a folder", "a device", "a link to nothing"])
def test_what_lies_in_a_journals_place_has_nobody_wait(tmp_path, odd):
    """In another user's folder, whatever is called so; nor what lies in its record's place."""
    a_run(tmp_path, "1", INTENT)
    a_run(tmp_path, "2")
    place = tmp_path / "runs" / "2" / FILE_NAME
    place.unlink()
    if odd == "a FIFO":
        os.mkfifo(place)
        os.mkfifo(place.with_name("run.json"))
    elif odd == "a folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero" if odd == "a device" else tmp_path / "nothing")
    assert [one.run_id for one in search(tmp_path).dead] == ["2", "1"]  # a person has to look
    assert [one.run_id for one in journals_that_know("uuid-a", [tmp_path])] == ["1"]
    with pytest.raises(JournalError):
        in_use(place)


def test_a_journal_that_is_too_large_is_not_read(tmp_path):
    """None of ours is."""
    a_run(tmp_path, "1", INTENT)
    journal = tmp_path / "runs" / "1" / FILE_NAME
    os.truncate(journal, 1 << 40)
    with pytest.raises(JournalError, match="too large"):
        read(journal)


def test_of_a_run_that_says_in_the_end_that_it_ended_nothing_else_is_read(tmp_path, monkeypatch):
    """A state folder has thousands of them."""
    for number, last in enumerate(("run finished", "recovered")):
        a_run(tmp_path, str(number), *[INTENT] * 1000, {"event": last})
    monkeypatch.setattr("harness.results.unfinished.read", lambda journal: pytest.fail("read"))
    assert list(dead_runs(tmp_path)) == []


LINES = st.sampled_from([
    b'{"event": "run finished"}', b'{"event": "recovered"}', b'{"event": "run stranded"}',
    b'{"event": "run finished", "version": 99}', b'{"event": "notified", "why": "x"}',
    b'{"event": "not served", "why": "%s"}' % (b"x" * 3000), json.dumps(INTENT).encode(),
    b'{"event": "run fin', b'"run finished"', b"", b"\xff\x00",
])  # fmt: skip


@given(st.lists(LINES, max_size=8), st.booleans())
def test_what_the_last_lines_say_is_what_the_whole_journal_says(tmp_path_factory, lines, torn):
    """Whatever they are: a dead run is never taken for one that has ended."""
    journal = tmp_path_factory.mktemp("run") / FILE_NAME
    journal.write_bytes(b"\n".join(lines) + (b"" if torn else b"\n"))
    assert fold(read(journal)).ended or not says_ended(journal)
