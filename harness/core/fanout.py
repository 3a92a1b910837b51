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
    begun = FanOut(calls, deadline, what=what)
    begun.wait(deadline)
    return begun.answers()


class FanOut(Generic[T]):
    """Calls that have been begun, concurrently; :func:`fan_out` in two steps."""

    def __init__(
        self, calls: Mapping[str, Callable[[], T]], deadline: Deadline, *, what: str
    ) -> None:
        """Begin them; ``deadline`` is when those that have not returned are given up."""
        self._names = tuple(calls)
        self._deadline = deadline
        self._what = what
        self._began_ns = deadline.clock.monotonic_ns()
        self._answers: dict[str, Answer[T]] = {}
        self._ended: SimpleQueue[str] = SimpleQueue()
        self._missing = len(calls)
        for name, call in calls.items():
            _idle_worker().do(partial(self._work, name, call))

    def wait(self, until: Deadline) -> bool:
        """Wait until all have returned; False if ``until`` comes first."""
        with suppress(Empty):
            while self._missing:
                self._ended.get(timeout=until.remaining_s())
                self._missing -= 1
        return not self._missing

    def returned(self) -> dict[str, Answer[T]]:
        """The answers of those that have returned by now."""
        return dict(self._answers)

    def answers(self) -> dict[str, Answer[T]]:
        """An answer for each: DeadlineExpired for one that has not returned."""
        here = self.returned()
        late_ns = self._deadline.clock.monotonic_ns()
        return {name: here.get(name) or self._late(name, late_ns) for name in self._names}

    def _late(self, name: str, late_ns: int) -> Answer[T]:
        error = DeadlineExpired(self._what, self._deadline.limit_s, guest=name)
        return Answer(None, error, self._began_ns, late_ns)

    def _work(self, name: str, call: Callable[[], T]) -> None:
        clock = self._deadline.clock
        start_ns = clock.monotonic_ns()
        outer, _here.deadline = _here.deadline, self._deadline
        try:
            value, error = call(), None
        except BaseException as caught:  # noqa: BLE001  handed to the caller in its Answer
            value, error = None, caught
        finally:
            _here.deadline = outer
        self._answers[name] = Answer(value, error, start_ns, clock.monotonic_ns())
        self._ended.put(name)


class _ThisThread(threading.local):
    deadline: Deadline | None = None
    """When it is given up."""


_here = _ThisThread()


def given_up_at(deadline: Deadline) -> bool:
    """Whether this thread makes a call of a fan-out that is given up at that very deadline.

    What it does is bounded by it then, and needs no further thread for that.
    """
    return _here.deadline is deadline


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
