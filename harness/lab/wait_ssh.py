"""Waiting until guests answer: an SSH server that introduces itself is a guest that is ready.

Our images and cloud-init install the guest's keys before they start the SSH server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from harness.core.errors import HarnessError, LabError
from harness.core.fanout import errors, fan_out
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.lab.ssh_banner import SSH_PORT, console_hint, expect_ssh_banner
from harness.lab.state import LabGuest

_ATTEMPT_S = 10.0


def wait_for_ssh(
    guests: Sequence[LabGuest],
    deadline: Deadline,
    lives: Callable[[str], bool] = lambda uuid: True,
) -> None:
    """Return when every guest answers. Raises LabError with the last words of one that does not.

    One that no longer ``lives`` (asked by its UUID) is not waited for.
    """
    calls = {
        guest.name: partial(
            wait_for,
            partial(_look, guest, lives),
            what="booting",
            deadline=deadline,
            interval_s=0.25,
        )
        for guest in guests
    }
    silent = errors(fan_out(calls, deadline, what="booting"))
    for guest in guests:
        if guest.name in silent:
            raise _unanswered(guest, silent[guest.name])


def _unanswered(guest: LabGuest, error: HarnessError) -> LabError:
    return LabError(
        f"does not answer SSH: {error.message}",
        guest=guest.name,
        hint=console_hint(Path(guest.serial_log)),
    )


def _look(guest: LabGuest, lives: Callable[[str], bool]) -> None:
    try:
        expect_ssh_banner(guest.address, SSH_PORT, _ATTEMPT_S)
    except NotYet:
        if not lives(guest.uuid):
            raise LabError("has ended while it booted") from None
        raise
