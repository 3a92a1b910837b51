"""The run's side of its guardian: start it, arm it before a pause, disarm it after the resume.

One message is one packet of JSON on a private socket pair; the end of the socket is the news that
the other side has died, which the kernel delivers whatever killed it.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from harness.core.background import start_in_background
from harness.core.errors import GuardianLost
from harness.core.polling import readable
from harness.core.process_state import python_module
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline
from harness.results.journal import Member

#: Starting it includes a Python interpreter and a connection to libvirt.
_ANSWER_S = 15.0
#: After the guests run again nothing depends on its answer.
_DISARM_S = 2.0
_PACKET_BYTES = 65536
LOG = "guardian.log"
#: One heap for all threads of the guardian: some 12 MiB less, and nothing waits for it.
_SMALL = {"MALLOC_ARENA_MAX": "1"}

Launch = Callable[[str, Path, socket.socket], Callable[[float], object]]
"""Starts a guardian for (URI, run folder, its end of the socket); returns what waits for its end.

It takes its own copy of the socket. Raises OSError.
"""


class Guard(Protocol):
    """What the pause window asks of a guardian."""

    @property
    def fd(self) -> int:
        """A descriptor: readable when the guardian has died, or has resumed guests itself."""

    @property
    def lost(self) -> bool:
        """Whether it has died."""

    def arm(self, limit_s: float, mark: str, members: Sequence[Member], patience_s: float) -> None:
        """Have the guardian resume ``members``, but for those that the journal says we let go.

        It does so as soon as this process is gone, or in ``limit_s`` seconds. People are notified
        of guests that it cannot resume for ``patience_s``. Raises GuardianLost.
        """

    def disarm(self) -> None:
        """None of our guests is paused any more. Never raises."""


def _as_process(uri: str, folder: Path, theirs: socket.socket) -> Callable[[float], object]:
    """Start the guardian in a process of its own; its messages go to the log in ``folder``."""
    number = theirs.fileno()
    command = python_module("harness.maintenance.pause.guardian", uri, str(folder), str(number))
    return start_in_background(command, folder / LOG, keep=[number], environment=_SMALL).wait


class GuardianProcess:
    """A guardian process for one run; a context manager."""

    def __init__(
        self,
        uri: str,
        folder: Path,
        clock: Clock = SYSTEM_CLOCK,
        launch: Launch = _as_process,
    ) -> None:
        """Start it; it gets ready while the run goes on. Raises GuardianLost."""
        self._clock = clock
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._wait = launch(uri, folder, theirs)
        except OSError as error:
            self._socket.close()
            raise GuardianLost(f"the guardian cannot be started: {error.strerror}") from error

    def __enter__(self) -> GuardianProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):  # it is still trying to resume a guest
            self._wait(_DISARM_S)

    @property
    def fd(self) -> int:
        """See :class:`Guard`."""
        return self._socket.fileno()

    @property
    def lost(self) -> bool:
        """See :class:`Guard`."""
        now = Deadline.after(0.0, self._clock)
        return self._readable(now) and not self._received(socket.MSG_PEEK)

    def arm(self, limit_s: float, mark: str, members: Sequence[Member], patience_s: float) -> None:
        """See :class:`Guard`."""
        until_ns = self._clock.monotonic_ns() + round(limit_s * NS_PER_S)
        request = {
            "until_ns": until_ns,
            "mark": mark,
            "guests": as_data(members),
            "patience_s": patience_s,
        }
        answer = self._ask({"arm": request}, _ANSWER_S)
        if answer is None:
            raise GuardianLost(
                "the guardian does not answer, so nothing was paused",
                hint=f"its last words are in {LOG} in the run folder",
            )
        if "error" in answer:
            raise GuardianLost(f"the guardian cannot guard: {answer['error']}; nothing was paused")

    def disarm(self) -> None:
        """See :class:`Guard`."""
        self._ask({"disarm": {}}, _DISARM_S)

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """Its answer; None if there is none in time, or it has died."""
        deadline = Deadline.after(seconds, self._clock)
        with suppress(OSError):  # it has died; so the next read says
            self._socket.send(json.dumps(request).encode())
        while self._readable(deadline):
            packet = self._received()
            if not packet:
                return None
            answer: dict[str, Any] = json.loads(packet)
            if answer.get("to") in request:
                return answer
        return None

    def _readable(self, deadline: Deadline) -> bool:
        # Not by the socket's own timeout: Python waits for that even with MSG_DONTWAIT.
        return bool(readable([self._socket.fileno()], deadline))

    def _received(self, flags: int = 0) -> bytes:
        try:
            return self._socket.recv(_PACKET_BYTES, flags)
        except ConnectionError:
            return b""


def as_data(members: Sequence[Member]) -> list[dict[str, str]]:
    """Return ``members`` as a message to the guardian names them."""
    return [{"name": member.name, "uuid": member.uuid} for member in members]
