"""Logins by a host that many guests share: a few at a time, and again where it turned one away.

An sshd closes connections without a word while many log in (``MaxStartups``, by default from ten
on), and those of a run come all at once.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from harness.core.errors import DeadlineExpired, TurnedAway
from harness.core.timebase import Deadline

T = TypeVar("T")

#: Of one process through one jump host. An sshd has ten before it turns any away, and others log
#: in there too.
AT_ONCE = 6
#: Pauses before another try: so long at first, twice as long each time, up to the most.
_FIRST_S, _MOST_S = 0.1, 1.6
_HINT = "is its sshd at its MaxStartups, or does it not let this host in?"


_lock = threading.Lock()
_turns: dict[tuple[object, ...], threading.Semaphore] = {}


def by_turns(
    way: tuple[object, ...],
    guest: str,
    patience_s: float,
    deadline: Deadline,
    log_in: Callable[[], T],
) -> T:
    """Return what ``log_in`` returns, when it is this guest's turn on that ``way``.

    ``way`` names what is shared. Safe in any thread. Raises what ``log_in`` raises, TurnedAway
    only if that goes on for ``patience_s``, and DeadlineExpired.
    """
    with _lock:
        turn = _turns.setdefault(way, threading.Semaphore(AT_ONCE))
    waiting = f"waiting for a turn to log in by {way[0]}"
    if not turn.acquire(timeout=deadline.timeout_s()):
        raise DeadlineExpired(waiting, deadline.limit_s, guest=guest)
    try:
        return _again(deadline.sooner(patience_s), log_in)
    finally:
        turn.release()


def _again(deadline: Deadline, log_in: Callable[[], T]) -> T:
    pause_s, tries = _FIRST_S, 1
    while True:
        try:
            return log_in()
        except TurnedAway as error:
            # Not in step with the others that were turned away.
            wait_s = pause_s * random.uniform(0.5, 1.5)
            if deadline.remaining_s() <= wait_s:
                error.message += f" (tried {tries} times)" if tries > 1 else ""
                error.hint = error.hint or _HINT
                raise
        deadline.clock.sleep(wait_s)
        pause_s, tries = min(2 * pause_s, _MOST_S), tries + 1
