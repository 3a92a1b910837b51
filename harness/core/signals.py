"""INT, TERM and HUP become a request that the run answers when it is safe to.

The handlers only write to an eventfd: they hold no lock, so they cannot deadlock with the code
they interrupt (as setting a :class:`threading.Event` there could). While guests are paused the
request makes the window abandon its update; it never skips a resume, however often it is repeated.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from harness.core.errors import Interrupted
from harness.core.polling import readable
from harness.core.timebase import Deadline

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """A context manager; inside it the first of ``SIGNALS`` is remembered in ``signal_name``."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._fd = -1
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread's calls notice signals; request() works in any
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup, or a job in the background: our caller means it
            self._previous[number] = signal.signal(number, self._requested)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._fd)

    def _requested(self, number: int, frame: FrameType | None) -> None:
        self.request(signal.Signals(number).name)

    def request(self, signal_name: str) -> None:
        """Ask the run to stop; what a signal does, and what a test does instead of one."""
        if self.signal_name is None:
            self.signal_name = signal_name
        os.eventfd_write(self._fd, 1)

    def check(self) -> None:
        """Raise Interrupted if we were asked to stop. Only for where nothing is paused."""
        if self.signal_name is not None:
            raise Interrupted(self.signal_name, "before the next pause")

    def pause(self, seconds: float) -> None:
        """Wait ``seconds``, or until we are asked to stop."""
        readable([self._fd], Deadline.after(seconds))

    def finished(self, job: Job, deadline: Deadline, *alarms: int) -> bool:
        """Wait for ``job``; return False if something else ends the wait first.

        That is the deadline, a signal that asks us to stop, or one of the ``alarms`` (descriptors)
        that becomes readable.
        """
        return job.done_fd in readable((job.done_fd, self._fd, *alarms), deadline)


@contextmanager
def ended_by_any_signal() -> Iterator[None]:
    """Let TERM and HUP end the block as INT does: by a KeyboardInterrupt, and what it unwinds.

    For what has something to leave behind and pauses nothing itself; a maintenance inside it has
    an :class:`Interruption` of its own. Once one has come, the others are ignored.
    """

    def end(number: int, frame: FrameType | None) -> None:
        for one in previous:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous: dict[signal.Signals, Any] = {}
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Job:
    """One call in a daemon thread of its own, so that no caller has to wait for its end.

    ``done_fd`` becomes readable when it has ended; then ``result()`` gives or raises what it did.
    """

    def __init__(self, call: Callable[[], Any], name: str) -> None:
        self.done_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001  raised again by result()
            self._error = error
        os.eventfd_write(self.done_fd, 1)

    def __del__(self) -> None:
        # The thread holds a reference, so the descriptor outlives a call that hangs.
        os.close(self.done_fd)

    def result(self) -> Any:
        """What the call returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value
