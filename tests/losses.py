"""What emulation did, told from a promise that was broken.

QEMU's emulated SVM takes the whole box with it now and then, or resets a guest in it, or lets one
stand still for seconds (docs/how-to/lab-box.md). Then the test is done again, in another box if it
has to be, at most ``MOST`` times a session, and the summary says so.

Only silence counts. A box that answers has an answer to give, and a test that fails on it has
failed. A guest has ended if libvirt has it no more after a test that ends none. It stood still if
it was silent from outside and its own timers came as late, and every other promise was kept. What a
fault of ours does it does again, until nothing is left to excuse it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from harness.core.errors import DeadlineExpired
from harness.core.files import last_lines
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.lab.box import qemu, ssh, state

MOST = 2
#: So long a box may be too busy to say a word.
SILENT_S = 60.0
#: ssh itself gives up on a box that has been silent for as long.
OPTIONS = ("-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
_LAST_LINES = 5


#: What breaks, and only that, when a guest that was resumed stands still for a while.
_STOOD_STILL = {"downtime", "timers"}


class Fault(Exception):
    """Of the emulation, not of what is tested."""


class BoxLost(Fault):
    """The box does not answer any more; how that shows, and its last words."""


class GuestEnded(Fault):
    """A guest in the box is gone, and its QEMU's last words."""


class GuestStalled(Fault):
    """A guest in the box stood still for seconds though it had been resumed."""


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


def look_for_end(names: Iterable[str], sh: Callable[[str], Any]) -> None:
    """Raises GuestEnded if one of these guests of an emulated box is gone; ``sh`` runs in it."""
    box = state.load()
    if box is None or box.accelerator != "tcg":
        return
    for name in names:
        if sh(f"virsh domstate {name} | grep -qE 'running|paused'").code:
            said = sh(f"tail -n 2 /var/log/libvirt/qemu/{name}.log").out.strip()
            raise GuestEnded(f"{name} has ended by itself: {said}")


def look_for_stall(record: dict[str, Any]) -> None:
    """Raises GuestStalled if that, and nothing else, is wrong in a run in an emulated box."""
    box = state.load()
    if box is None or box.accelerator != "tcg":
        return
    told = []
    for guest in record["guests"]:
        broken = {c["name"]: c for c in guest["checks"] if c["outcome"] in ("fail", "error")}
        if broken.keys() - _STOOD_STILL or guest["problems"]:
            return
        if broken.keys() == _STOOD_STILL:
            told.append(f"{guest['name']} for {broken['downtime']['measured']:.1f} s")
    if told:
        raise GuestStalled(f"stood still after its resume: {', '.join(told)}")


def _last_words() -> str:
    said = [
        f"{log.name}: {last_lines(log, _LAST_LINES) or 'nothing'}"
        for log in (state.serial_log(), state.qemu_log())
    ]
    return "; ".join(said)


class Losses:
    """The faults that a session has met."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def outlive(self, what: str, attempt: Callable[[], None], renew: Callable[[], None]) -> None:
        """Do ``attempt``, again when emulation failed it: in another box when its own is lost.

        Fails when that happens too often. A box that was given and is lost is left as it is, to
        be looked at.
        """
        while True:
            try:
                return attempt()
            except Fault as fault:
                lost = isinstance(fault, BoxLost)
                self.told.append(f"{what}: {'the box was lost: ' if lost else ''}{fault}")
                if len(self.told) > MOST or (lost and "HARNESS_KVM_BOX" in os.environ):
                    pytest.fail("\n".join(self.told))
            if lost:
                renew()
