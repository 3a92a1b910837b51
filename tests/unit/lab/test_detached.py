"""Processes that outlive a command: started, found again, ended; real, small ones."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from harness.core.errors import MissingCapability
from harness.core.files import last_lines
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.lab.detached import Detached, start


def test_it_has_a_session_of_its_own_and_what_it_says_is_kept(tmp_path):
    """It inherits what is to be kept open; its log is private and appended to."""
    log, kept = tmp_path / "log", os.open(tmp_path, os.O_RDONLY)
    log.write_text("before\n")
    started = start(
        ["sh", "-c", f"echo $$ up; readlink /proc/$$/fd/{kept}; exec sleep 60"], log, keep_open=kept
    )
    os.close(kept)
    try:
        assert os.getsid(started.pid) == started.pid

        def said() -> None:
            if last_lines(log) != str(tmp_path):
                raise NotYet(log.read_text())

        wait_for(said, what="its words", deadline=Deadline.after(20), interval_s=0.01)
        assert last_lines(log, 3) == f"before / {started.pid} up / {tmp_path}"
    finally:
        started.end("sleep")
    assert not started.lives()


def test_no_other_process_is_ended(tmp_path):
    """A pid that was used again is another process."""
    started = start(["sleep", "60"], tmp_path / "log")
    other = replace(started, start_ticks=started.start_ticks - 1)
    try:
        other.end("another", at_once=True)
        assert started.lives()
        assert not other.lives()
    finally:
        started.end("sleep", at_once=True)


def test_a_log_may_be_begun_again_and_one_that_ended_is_let_be(tmp_path):
    """Ending what has ended is no error, and reaps it."""
    (tmp_path / "log").write_text("before\n")
    started = start(["true"], tmp_path / "log", truncate=True)

    def ended() -> None:
        if started.lives():
            raise NotYet("it runs")

    wait_for(ended, what="its end", deadline=Deadline.after(20), interval_s=0.01)
    started.end("true")
    with pytest.raises(ProcessLookupError):
        os.kill(started.pid, signal.SIGCONT)
    assert last_lines(tmp_path / "log") == ""


def test_what_is_not_installed_is_named(tmp_path):
    """Before anything is made."""
    with pytest.raises(MissingCapability, match="no-such-program is not installed"):
        start(["no-such-program"], tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_it_has_the_umask_of_a_service(tmp_path):
    """Under 077 dnsmasq's own user could not read its leases, and guests got other addresses."""
    before = os.umask(0o077)
    try:
        started = start(["sh", "-c", "umask"], tmp_path / "log")
        assert os.umask(0o077) == 0o077  # ours is as it was
    finally:
        os.umask(before)
    wait_for(lambda: _ended(started), what="its end", deadline=Deadline.after(20), interval_s=0.01)
    assert last_lines(tmp_path / "log") == "0022"


def _ended(process: Detached) -> None:
    if process.lives():
        raise NotYet("it lives")
