"""Several guests are resumed at once: whether each runs is asked when all have been let go.

A guest that runs again has the cores that the others' calls need; so has a question about it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: One whose call hangs keeps the others' answers waiting for no longer.
_OTHERS_S = 0.1


class ResumesUnderWay:
    """Counts calls; safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0

    @contextmanager
    def one(self) -> Iterator[Callable[[], None]]:
        """One call is under way until the block ends, or calls what it is given."""
        over = False

        def end() -> None:
            nonlocal over
            with self._changed:
                if not over:
                    over = True
                    self._calls -= 1
                    if not self._calls:
                        self._changed.notify_all()

        with self._changed:
            self._calls += 1
        try:
            yield end
        finally:
            end()

    def wait(self, left_s: float) -> None:
        """Return when none is under way, or after a moment; ``left_s`` at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._calls, timeout=min(_OTHERS_S, left_s))
