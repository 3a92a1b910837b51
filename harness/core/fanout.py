"""Do the same thing to several guests at once, and never wait past a deadline for any of them.

Threads rather than asyncio: libvirt and paramiko block, and release the interpreter while they
do. The threads are daemonic and are left behind when a call hangs; a pool of
:mod:`concurrent.futures` would wait for them at exit. They are used again: to start one takes
longer than most calls on a machine whose guests want its cores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from harness.core.errors import DeadlineExpired, HarnessError, together
from harness.core.timebase import Deadline

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
) -> dict[str, Answer[T]]:
    """Run all ``calls`` concurrently; return an answer for each, in the order given.

    A call that has not returned by the deadline is answered with DeadlineExpired. Nothing is
    raised here: one failure never hides the other answers.
    """
    clock = deadline.clock
    began_ns = clock.monotonic_ns()
    answers: dict[str, Answer[T]] = {}

    def work(name: str, call: Callable[[], T]) -> None:
        start_ns = clock.monotonic_ns()
        try:
            value, error = call(), None
        except BaseException as caught:  # noqa: BLE001  handed to the caller in its Answer
            value, error = None, caught
        answers[name] = Answer(value, error, start_ns, clock.monotonic_ns())
        ended.put(name)

    ended: SimpleQueue[str] = SimpleQueue()
    for name, call in calls.items():
        _idle_worker().do(partial(work, name, call))
    with suppress(Empty):
        for _ in calls:
            ended.get(timeout=deadline.remaining_s())
    late_ns = clock.monotonic_ns()
    return {
        name: answers.get(name)
        or Answer(None, DeadlineExpired(what, deadline.limit_s, guest=name), began_ns, late_ns)
        for name in calls
    }


class _Worker:
    """A thread that does one call after another; one whose call hangs is never idle again."""

    def __init__(self) -> None:
        """Raises RuntimeError if no thread is to be had."""
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._serve, name="fan-out", daemon=True).start()

    def do(self, call: Callable[[], None]) -> None:
        """Have it done."""
        self._calls.put(call)

    def _serve(self) -> None:
        while True:
            self._calls.get()()
            _idle.append(self)


class _Here:
    """Does it at once: without a thread, a resume must happen all the same."""

    def do(self, call: Callable[[], None]) -> None:
        """Do it."""
        call()


_idle: list[_Worker] = []


def _idle_worker() -> _Worker | _Here:
    try:
        return _idle.pop()
    except IndexError:
        pass
    try:
        return _Worker()
    except RuntimeError:  # limits of memory or of tasks
        return _Here()


def hire(count: int) -> bool:
    """Have ``count`` threads wait, so that none has to be started when time is short.

    Return whether they do. Never raises: one that cannot be started now is tried again when it is
    needed.
    """
    with suppress(RuntimeError):
        while len(_idle) < count:
            _idle.append(_Worker())
    return len(_idle) >= count


def values(answers: Mapping[str, Answer[T]]) -> dict[str, T]:
    """Return what every call returned, or raise the errors of all that failed, together."""
    if failed := errors(answers):
        raise together(failed)
    return {name: answer.get() for name, answer in answers.items()}


def errors(answers: Mapping[str, Answer[T]]) -> dict[str, HarnessError]:
    """The errors among the answers. An exception that is not ours is a bug and is raised."""
    found: dict[str, HarnessError] = {}
    for name, answer in answers.items():
        if isinstance(answer.error, HarnessError):
            found[name] = answer.error
        elif answer.error is not None:
            raise answer.error
    return found
