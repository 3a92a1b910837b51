"""Locks on files that tell whether their holder lives; the kernel releases them when it dies.

Who only looks holds a shared lock for an instant. Who wants the lock waits for that, so that
looking keeps no one out; lookers do not see each other.
"""

from __future__ import annotations

import fcntl

from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline

#: Much longer than a look takes, and short enough to be told of a holder that stays.
_LOOKED_AT_S = 0.5
_AGAIN_S = 0.01


def hold(descriptor: int, clock: Clock = SYSTEM_CLOCK, *, patience_s: float | None = None) -> None:
    """Lock the open file ``descriptor`` until it is closed.

    ``patience_s``: how long it is tried; None: longer than a look takes, and no longer.

    Raises BlockingIOError if another one holds it for all of that time; OSError.
    """
    until = Deadline.after(_LOOKED_AT_S if patience_s is None else patience_s, clock)
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if until.expired:
                raise
        clock.sleep(_AGAIN_S)


def is_held(descriptor: int) -> bool:
    """Return True if another open file holds the lock. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
