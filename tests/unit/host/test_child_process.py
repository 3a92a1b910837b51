"""How an update's process has ended is known, whoever of us looks first."""

from __future__ import annotations

import os
import threading

from harness.core.timebase import Deadline
from harness.host.child_process import UpdateProcess


def test_the_ender_that_looks_at_the_same_moment_takes_no_status_away(tmp_path, monkeypatch):
    """It reaps the process after ``wait`` has looked whether that was done, and before it asks."""
    process = UpdateProcess(["sh", "-c", "exit 7"], {}, "mark", tmp_path / "output")
    really_ask = os.waitid
    others: list[threading.Thread] = []

    def meanwhile(*how: int) -> object:
        other = threading.Thread(target=process.survivors, args=(Deadline.after(5),))
        others.append(other)
        other.start()
        other.join(0.3)  # as far as it comes
        return really_ask(*how)

    monkeypatch.setattr(os, "waitid", meanwhile)
    assert process.wait(Deadline.after(30)) == 7
    for other in others:
        other.join()
    assert len(others) == 1
