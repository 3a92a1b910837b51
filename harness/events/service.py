"""A server for a run that needs one: the one that is there, or one that ends after the run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.core.background import BackgroundProcess, start_in_background
from harness.core.errors import EventError
from harness.core.files import last_lines, private_folder
from harness.core.process_state import python_module
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.events.server import is_served

_START_S = 30.0


class Service:
    """Starts ``harness events serve`` where none is, and again if it dies."""

    def __init__(self, state_dir: Path, arguments: Sequence[str]) -> None:
        """``arguments``: of ``harness events serve``."""
        self._state_dir = state_dir
        self._arguments = arguments
        self._process: BackgroundProcess | None = None
        self._log = state_dir / "events-server.log"

    def ensure(self) -> None:
        """Return when guests are answered. Raises EventError with what the server said."""
        if self._process is not None and self._process.poll() is None:
            return
        if is_served(self._state_dir):
            return
        said, tell = os.pipe()
        try:
            ours = ("--until-eof", "--ready-fd", str(tell))
            self._process = start_in_background(
                python_module("harness", "events", "serve", *self._arguments, *ours),
                self._log,
                append=False,
                keep=[tell],
                fed=True,
            )
        finally:
            os.close(tell)
        with open(said, "rb", buffering=0) as pipe:
            os.set_blocking(pipe.fileno(), False)
            self._wait_until_ready(pipe.fileno())

    def _wait_until_ready(self, said: int) -> None:
        def look() -> None:
            try:
                answer = os.read(said, 1)
            except BlockingIOError as error:
                raise NotYet("it has not said so") from error
            if not answer:
                why = last_lines(self._log).removeprefix("harness: ") or "it said nothing"
                raise EventError(f"events cannot be served: {why}")

        wait_for(look, what="starting the events server", deadline=Deadline.after(_START_S))

    def said(self) -> str | None:
        """Return where the server of this process answers guests; None if another one does."""
        return None if self._process is None else last_lines(self._log)

    def close(self) -> None:
        """Let our server go. It goes on for as long as guests do not know how it ended."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


@contextmanager
def served(state_dir: Path, arguments: Sequence[str]) -> Iterator[Service]:
    """A :class:`Service` that is closed in the end."""
    private_folder(state_dir)
    service = Service(state_dir, arguments)
    try:
        yield service
    finally:
        service.close()
