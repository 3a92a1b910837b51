"""Do the same thing to several guests at once, and never wait past a deadline for any of them.

Threads rather than asyncio: libvirt and paramiko block, and release the interpreter while they
do. The threads are daemonic and are left behind when a call hangs; a pool of
:mod:`concurrent.futures` would wait for them at exit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.errors import DeadlineExpired, HarnessError
from harness.timebase import SYSTEM_CLOCK, Clock, Deadline

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What became of one call; the stamps are the host's CLOCK_MONOTONIC around it."""

    value: T | None
    error: BaseException | None
    began_ns: int
    returned_ns: int

    def get(self) -> T:
        """The value, or raise what the call raised."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # no error: the call returned a T


def fan_out(
    calls: Mapping[str, Callable[[], T]],
    deadline: Deadline,
    *,
    what: str,
    clock: Clock = SYSTEM_CLOCK,
) -> dict[str, Answer[T]]:
    """Run all ``calls`` concurrently; return an answer for each, in the order given.

    A call that has not returned by the deadline is answered with DeadlineExpired. Nothing is
    raised here: one failure never hides the other answers.
    """
    began_ns = clock.monotonic_ns()
    answers: dict[str, Answer[T]] = {}

    def work(name: str, call: Callable[[], T]) -> None:
        start_ns = clock.monotonic_ns()
        try:
            value, error = call(), None
        except BaseException as caught:  # noqa: BLE001  handed to the caller in its Answer
            value, error = None, caught
        answers[name] = Answer(value, error, start_ns, clock.monotonic_ns())

    threads = [_start(work, name, call) for name, call in calls.items()]
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(timeout=deadline.remaining_s())
    late_ns = clock.monotonic_ns()
    return {
        name: answers.get(name)
        or Answer(None, DeadlineExpired(what, deadline.limit_s, guest=name), began_ns, late_ns)
        for name in calls
    }


def _start(work: Callable[..., None], name: str, call: Callable[[], T]) -> threading.Thread:
    thread = threading.Thread(target=work, args=(name, call), name=f"fan-out {name}", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # No thread to be had (memory or task limit). A resume must happen all the same.
        thread = threading.current_thread()
        work(name, call)
    return thread


def errors(answers: Mapping[str, Answer[T]]) -> dict[str, HarnessError]:
    """The errors among the answers. An exception that is not ours is a bug and is raised."""
    found: dict[str, HarnessError] = {}
    for name, answer in answers.items():
        if isinstance(answer.error, HarnessError):
            found[name] = answer.error
        elif answer.error is not None:
            raise answer.error
    return found
