"""End an update only after the guests that it was applied under have had their chance to run.

An update may have restarted libvirtd, and ending the update first could end the one process that
can resume the guests. So ending waits until the guests run; but not without end, because an update
that hangs may itself be what keeps them paused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

#: A libvirtd that answers resumes within a fraction of this.
RESUME_FIRST_S = 5.0


class Ending:
    """Calls ``end`` from a thread that is started beforehand, while threads can be had."""

    def __init__(self, end: Callable[[], None]) -> None:
        """Start the waiting thread. Raises RuntimeError if no thread is to be had."""
        self._end = end
        self._wanted = False
        self._begun = threading.Event()
        self._freed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="update ending", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Have the update ended: after ``free``, or ``RESUME_FIRST_S`` seconds at the latest."""
        self._wanted = True
        self._begun.set()

    def free(self, wait_s: float) -> None:
        """Say that no guest waits any more; return when a wanted ending is done, or ``wait_s``."""
        self._freed.set()
        self._begun.set()
        self._thread.join(wait_s)

    def _work(self) -> None:
        self._begun.wait()
        if self._wanted:
            self._freed.wait(RESUME_FIRST_S)
            with suppress(BaseException):  # the settling of the update names what still lives
                self._end()
