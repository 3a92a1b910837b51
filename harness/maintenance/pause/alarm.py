"""Have people told of guests that could not be resumed, without keeping the rescue waiting.

From a thread that is started beforehand, while threads can be had: what tells people may hang, as
the disk that it is on may, and only this thread waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: In the run folder: what the process that tells people has to say.
LOG = "alarm.log"


def tell_by_process(uri: str, folder: str, over: bool) -> None:
    """Start the process that tells people of the guests that the run in ``folder`` holds.

    ``over``: the guardian does not go on trying.

    Not by vfork: every thread would wait for a disk that is slow to give the program. Raises
    OSError, or whatever comes of too little memory.
    """
    import subprocess

    from harness.core.background import start_in_background
    from harness.core.process_state import python_module

    vars(subprocess)["_USE_VFORK"] = False  # the documented way
    command = python_module("harness.results.notify.dead_run", uri, folder, str(over))
    start_in_background(command, Path(folder, LOG))


class Alarm:
    """Calls ``tell`` every ``after_s`` seconds of a rescue, and at its end, until it is done."""

    def __init__(self, tell: Callable[[bool], bool], after_s: float) -> None:
        """Start the waiting thread. Raises RuntimeError if no thread is to be had.

        Args:
            tell: Tells people; True if it has. It is given whether the rescue is over.
            after_s: How long a rescue may take before people are notified.
        """
        self._tell = tell
        self._after_s = after_s
        self._stranded = False
        self._begun = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="alarm", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Say that a rescue has begun."""
        self._begun.set()

    def end(self, *, stranded: bool) -> None:
        """Say that there is no rescue, or that it is over, and whether a guest is still paused."""
        self._stranded = stranded
        self._over.set()
        self._begun.set()

    def wait(self, seconds: float) -> None:
        """Return when people are notified, or after ``seconds``."""
        self._thread.join(seconds)

    def _work(self) -> None:
        self._begun.wait()
        told = False
        while not self._over.wait(None if told else self._after_s):
            told = self._told(over=False)
        if self._stranded and not told:
            self._told(over=True)

    def _told(self, *, over: bool) -> bool:
        with suppress(BaseException):  # no memory, no process: asked again
            return self._tell(over)
        return False
