"""The only module that reads a clock or sleeps.

Durations and deadlines use the host's CLOCK_MONOTONIC; guest offsets are measured against the
host's CLOCK_REALTIME; the journal is stamped with CLOCK_BOOTTIME. All readings are integer
nanoseconds (``_ns``), all limits float seconds (``_s``). Tests pass a fake :class:`Clock`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from harness.core.errors import DeadlineExpired, InfrastructureError

NS_PER_S = 1_000_000_000
#: What a foreign ``timeout=`` can take at most. Sockets and subprocesses wait with poll(), which
#: counts milliseconds in a C int: OverflowError after 24.8 days.
LONGEST_TIMEOUT_S = 24 * 86_400.0
#: Two looks at clocks, one after the other, take a microsecond; so many are tried to get them.
_TOGETHER_NS, _LOOKS = 10_000, 10

T = TypeVar("T")


class Clock(Protocol):
    """Where time comes from; :class:`SystemClock` in production, a fake in unit tests."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC of the host in nanoseconds: for durations and deadlines."""

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME of the host, nanoseconds since 1970 UTC: what guests are compared with."""

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME of the host in nanoseconds: orders journal lines within one boot."""

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` (≥ 0)."""


class SystemClock:
    """The host's real clocks."""

    def monotonic_ns(self) -> int:
        """See :class:`Clock`."""
        return time.monotonic_ns()

    def realtime_ns(self) -> int:
        """See :class:`Clock`."""
        return time.time_ns()

    def boottime_ns(self) -> int:
        """See :class:`Clock`."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        """See :class:`Clock`."""
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True)
class Ahead:
    """How far another clock of the host is ahead of CLOCK_MONOTONIC: the truth is ns ± doubt_ns."""

    ns: int
    doubt_ns: int


def realtime_ahead(clock: Clock) -> Ahead:
    """Return CLOCK_REALTIME − CLOCK_MONOTONIC."""
    return _ahead(clock.realtime_ns, clock)


def boot_ahead_ns(clock: Clock) -> int:
    """Return CLOCK_BOOTTIME − CLOCK_MONOTONIC: how long the host was suspended since its boot.

    What is written down for other processes is in boottime; libvirt's events and deadlines are in
    monotonic time.
    """
    return _ahead(clock.boottime_ns, clock).ns


def _ahead(other_ns: Callable[[], int], clock: Clock) -> Ahead:
    """Look at both until no time has passed in between, or the closest of a few looks.

    Who has to wait for a core between two looks has looked at two moments, milliseconds apart.
    """
    looks = []
    for _ in range(_LOOKS):
        before_ns = clock.monotonic_ns()
        seen_ns = other_ns()
        apart_ns = clock.monotonic_ns() - before_ns
        looks.append(Ahead(seen_ns - before_ns - apart_ns // 2, (apart_ns + 1) // 2))
        if apart_ns <= _TOGETHER_NS:
            break
    return min(looks, key=lambda one: one.doubt_ns)


def utc_now(clock: Clock = SYSTEM_CLOCK) -> datetime:
    """The host's wall-clock time in UTC, for people and file names; never for durations."""
    return datetime.fromtimestamp(clock.realtime_ns() / NS_PER_S, tz=UTC)


@dataclass(frozen=True)
class Deadline:
    """A point in (monotonic) time that is handed down instead of many timeouts.

    A timeout restarts at every call and so adds up; a deadline does not.
    """

    at_ns: int
    limit_s: float
    clock: Clock = field(default=SYSTEM_CLOCK, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """The deadline ``seconds`` from now."""
        return cls(clock.monotonic_ns() + round(seconds * NS_PER_S), seconds, clock)

    def remaining_s(self) -> float:
        """Return the seconds left, never negative."""
        return max(0.0, (self.at_ns - self.clock.monotonic_ns()) / NS_PER_S)

    def timeout_s(self) -> float:
        """Return the seconds left for the ``timeout=`` of a socket or a subprocess.

        At most LONGEST_TIMEOUT_S: what is given that much gives up after 24 days, and not at once
        with an OverflowError.
        """
        return min(self.remaining_s(), LONGEST_TIMEOUT_S)

    @property
    def expired(self) -> bool:
        """Whether the point in time has passed."""
        return self.clock.monotonic_ns() >= self.at_ns

    def sooner(self, seconds: float) -> Deadline:
        """This deadline, or ``seconds`` from now if that comes first."""
        other = Deadline.after(seconds, self.clock)
        return other if other.at_ns < self.at_ns else self

    def check(self, what: str, last_error: BaseException | None = None) -> None:
        """Raise :class:`DeadlineExpired` naming ``what`` if the time is up."""
        if self.expired:
            raise DeadlineExpired(what, self.limit_s, last_error)


@dataclass
class Stopwatch:
    """Measures a duration on the monotonic clock, starting when it is made."""

    clock: Clock = SYSTEM_CLOCK
    started_ns: int = field(init=False)

    def __post_init__(self) -> None:
        self.started_ns = self.clock.monotonic_ns()

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return (self.clock.monotonic_ns() - self.started_ns) / NS_PER_S


class Suspension:
    """Tells for how long the host has been suspended since this was made.

    CLOCK_BOOTTIME goes on while the host is suspended and CLOCK_MONOTONIC does not; guests, and our
    deadlines, stand still with the latter. A step of CLOCK_REALTIME moves neither.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        monotonic_ns = clock.monotonic_ns()
        self._ahead_ns = clock.boottime_ns() - monotonic_ns  # at most, as time passed in between

    def seconds(self) -> float:
        """Return for how long it was, at least: exactly 0 if it was not."""
        boottime_ns = self._clock.boottime_ns()
        return max(0, boottime_ns - self._clock.monotonic_ns() - self._ahead_ns) / NS_PER_S


class NotYet(InfrastructureError):
    """Raised by a probe given to :func:`wait_for`: the state is not reached, and why."""


def wait_for(
    probe: Callable[[], T],
    *,
    what: str,
    deadline: Deadline,
    interval_s: float = 0.1,
    share: float = 0.0,
    at_most_s: float = 10.0,
    retry_on: tuple[type[Exception], ...] = (),
) -> T:
    """Call ``probe`` until it returns; return its answer.

    With ``share`` the longer it has taken, the longer it waits: that share of it, up to
    ``at_most_s``.

    ``probe`` raises :class:`NotYet` (or one of ``retry_on``) to be asked again after
    ``interval_s``. Any other exception passes through. Raises :class:`DeadlineExpired` carrying
    the last reason when the deadline passes first. The probe is asked at least once.
    """
    not_yet: tuple[type[Exception], ...] = (NotYet, *retry_on)
    began_ns = deadline.clock.monotonic_ns()
    while True:
        try:
            return probe()
        except not_yet as error:
            deadline.check(what, error)
        taken_s = (deadline.clock.monotonic_ns() - began_ns) / NS_PER_S
        wait_s = max(interval_s, min(share * taken_s, at_most_s))
        deadline.clock.sleep(min(wait_s, deadline.remaining_s()))
