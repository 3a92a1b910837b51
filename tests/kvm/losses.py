"""A box that does not answer any more, told from a promise that was broken.

QEMU's emulated SVM takes the whole box with it now and then (docs/lab-box.md). Then another box is
booted and the test is done again, at most ``MOST`` times a session, and the summary says so. Only
silence counts as a loss: a box that answers has an answer to give, and a test that fails on it has
failed. What a fault of ours does to the box it does again, until there is no box left to lose.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import DeadlineExpired
from harness.lab.box import qemu, ssh, state
from harness.timebase import Deadline, NotYet, wait_for

MOST = 2
#: So long a box may be too busy to say a word.
SILENT_S = 60.0
#: ssh itself gives up on a box that has been silent for as long.
OPTIONS = ("-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
_LAST_LINES = 5


class BoxLost(Exception):
    """The box does not answer any more; how that shows, and its last words."""


def look(silent_s: float = SILENT_S) -> None:
    """Return if the box answers. Raises BoxLost if its QEMU has ended, or SSH is silent so long."""
    box = state.load()

    def answers() -> None:
        if box is None or not qemu.lives(box):
            raise BoxLost(f"its QEMU has ended; {_last_words()}")
        words = ssh.command(box, ["true"], OPTIONS)
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=silent_s)
        except subprocess.TimeoutExpired as error:
            raise NotYet(str(error)) from error
        if done.returncode:
            raise NotYet(done.stderr.strip())

    try:
        wait_for(answers, what="the box", deadline=Deadline.after(silent_s), interval_s=1)
    except DeadlineExpired as error:
        raise BoxLost(f"SSH is silent: {error}; {_last_words()}") from error


def _last_words() -> str:
    said = [f"{log.name}: {_tail(log)}" for log in (state.serial_log(), state.qemu_log())]
    return "; ".join(said)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return " / ".join([line.strip() for line in lines if line.strip()][-_LAST_LINES:]) or "nothing"


class Losses:
    """The boxes that a session has lost."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def outlive(self, what: str, attempt: Callable[[], None], renew: Callable[[], None]) -> None:
        """Do ``attempt``, again in another box when its own is lost.

        Fails when too many are lost. A box that was given is left as it is, to be looked at.
        """
        while True:
            try:
                return attempt()
            except BoxLost as lost:
                self.told.append(f"{what}: the box was lost: {lost}")
                if len(self.told) > MOST or "HARNESS_KVM_BOX" in os.environ:
                    pytest.fail("\n".join(self.told))
            renew()
