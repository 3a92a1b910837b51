"""Waiting until guests answer: an SSH server that introduces itself is a guest that is ready.

Our images and cloud-init install the guest's keys before they start the SSH server.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from harness.core.errors import HarnessError, LabError
from harness.core.fanout import errors, fan_out
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.lab.state import LabGuest

_SSH_PORT = 22
_BANNER = b"SSH-"
#: Under emulation sshd may take seconds to say hello; asking again would only slow it down.
_ATTEMPT_S = 10.0
_CONSOLE_LINES = 3


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
    log = Path(guest.serial_log)
    said = log.read_text(errors="replace").split("\n") if log.exists() else []
    last = [line.strip() for line in said if line.strip()][-_CONSOLE_LINES:]
    console = " / ".join(last) or "nothing"
    return LabError(
        f"does not answer SSH: {error.message}",
        guest=guest.name,
        hint=f"its console said last: {console}",
    )


def _look(guest: LabGuest, lives: Callable[[str], bool]) -> None:
    try:
        _banner(guest.address)
    except NotYet:
        if not lives(guest.uuid):
            raise LabError("has ended while it booted") from None
        raise


def _banner(address: str) -> None:
    """Raises NotYet until an SSH server introduces itself."""
    try:
        with closing(socket.create_connection((address, _SSH_PORT), _ATTEMPT_S)) as connection:
            if connection.recv(len(_BANNER)) != _BANNER:
                raise NotYet(f"{address}: port {_SSH_PORT} is not SSH yet")
    except OSError as error:
        raise NotYet(f"{address}: {error.strerror or error}") from error
