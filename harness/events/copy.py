"""What the guests of this host see, copied from a store that hosts share by a thread of its own.

No request of a guest waits for a database on another machine. A copy that is too old is no answer:
a client takes an incarnation that it knows for "nothing has changed"; after a 503 it asks again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from harness.core.errors import HarnessError, InfrastructureError
from harness.core.timebase import SYSTEM_CLOCK, Clock, Stopwatch
from harness.events.store import Look, Store

#: Clients ask once a second; an answer is not older than a client's own last question.
_LOOK_S = 0.5
#: So old a copy is shown; by then a database that is there would have answered.
STALE_S = 5.0

_LEAVE_S = 2.0

_log = logging.getLogger("harness.events")


class Copy:
    """Looks at a store again and again, from the first ``latest`` on; ``close`` it in the end."""

    def __init__(self, opened: Callable[[], Store], clock: Clock = SYSTEM_CLOCK) -> None:
        """``opened`` is called in the thread, which alone uses that store."""
        self._opened = opened
        self._clock = clock
        self._latest: tuple[Look, Stopwatch] | None = None
        self._why = "it was not read yet"
        self._wanted = threading.Event()
        self._first = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._go_on, name="events-copy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let the thread end; it is not waited for long where the database does not answer."""
        self._closed = True
        self._wanted.set()
        self._thread.join(_LEAVE_S)

    def soon(self) -> None:
        """Look at once: something has changed."""
        self._wanted.set()

    def wait(self, seconds: float) -> None:
        """Return when it was looked at once, or after ``seconds``."""
        self._first.wait(seconds)

    def latest(self) -> Look:
        """Return the copy. Raises InfrastructureError if it is too old to be shown."""
        found = self._latest
        if found is None or found[1].elapsed_s() > STALE_S:
            raise InfrastructureError(f"what guests see is not known: {self._why}")
        return found[0]

    def _go_on(self) -> None:
        try:
            with self._opened() as store:
                while not self._closed:
                    self._look(store)
                    self._first.set()
                    self._wanted.wait(_LOOK_S)
                    self._wanted.clear()
        except HarnessError as error:  # a URL that may not be used
            self._why = str(error)
            self._first.set()

    def _look(self, store: Store) -> None:
        asked = Stopwatch(self._clock)
        try:
            self._latest = store.look(), asked
        except HarnessError as error:
            if self._why != str(error):
                _log.warning("%s", error)
            self._why = str(error)
