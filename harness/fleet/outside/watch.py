"""For how long the host and its guests did not answer this machine, by its own monotonic clock.

By ICMP, five times a second. No connection to a port is tried: an SSH daemon counts those that do
not log in, and shuts out an address that makes many.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.checks.probes.downtime import Way, icmp_way
from harness.checks.probes.outside import OUTSIDE
from harness.core.records import SilenceRecord
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline

INTERVAL_S = 0.2
#: Silent for so long, it does not answer at this moment.
_ANSWERS_S = 1.0
#: The host's network may be up later than its guests are.
PATIENCE_S = 60.0


class Asked:
    """One who is asked by ICMP, all the time (a ``Watcher``)."""

    def __init__(self, name: str, address: str, way: Way, clock: Clock) -> None:
        """``way`` was answered just now."""
        self.name = name
        self.address = address
        self._way = way
        self._clock = clock
        self._due_ns = 0
        self._sent = 0
        self._last_ns = clock.monotonic_ns()
        self._longest_ns = 0

    def fileno(self) -> int:
        """See ``Watcher``."""
        return self._way.fileno()

    def due_ns(self) -> int:
        """See ``Watcher``."""
        return self._due_ns

    def act(self) -> None:
        """See ``Watcher``."""
        self._due_ns = self._clock.monotonic_ns() + round(INTERVAL_S * NS_PER_S)
        self._way.send(self._sent)
        self._sent += 1

    def hear(self) -> None:
        """See ``Watcher``."""
        answer_ns = self._way.answer_ns(0.0)
        if answer_ns is not None:
            self._longest_ns = max(self._longest_ns, answer_ns - self._last_ns)
            self._last_ns = max(self._last_ns, answer_ns)

    @property
    def answers(self) -> bool:
        """Whether an answer has come just now."""
        return self._clock.monotonic_ns() - self._last_ns < _ANSWERS_S * NS_PER_S

    def told(self) -> SilenceRecord:
        """Return its longest silence; one that lasts is as long as it has been by now."""
        lasting_ns = self._clock.monotonic_ns() - self._last_ns
        lasts = not self.answers
        longest_ns = max(self._longest_ns, lasting_ns if lasts else 0)
        return SilenceRecord(
            name=self.name,
            address=self.address,
            silent_s=longest_ns / NS_PER_S,
            uncertainty_s=INTERVAL_S,
            answers=not lasts,
        )

    def close(self) -> None:
        """Let go of its socket."""
        self._way.close()


@dataclass(frozen=True)
class Watched:
    """What was seen of the host and of those guests that could be watched."""

    host: SilenceRecord | None
    guests: tuple[SilenceRecord, ...]
    notes: tuple[str, ...]
    """Who could not be watched, and why."""


class Watch:
    """Asks the host and its guests until it is closed."""

    def __init__(
        self,
        icmp: Callable[[str], Way | None] = icmp_way,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``icmp``: what makes a way of an address that answers, None: it does not."""
        self._icmp = icmp
        self._clock = clock
        self._host: Asked | None = None
        self._guests: list[Asked] = []
        self._notes: list[str] = []

    def host(self, name: str, address: str | None, own: str | None) -> None:
        """Watch the host, if what answers at ``address`` is the host: it has it for its ``own``."""
        if address is None or own is None or not _same(address, own):
            self._notes.append(
                f"{name} was not watched: it is not reached at an address of its own, so what "
                "answers there may be another machine"
            )
            return
        self._host = self._begin(name, address)

    @property
    def _everyone(self) -> Sequence[Asked]:
        return [*self._guests, *([self._host] if self._host else [])]

    def guests(self, addresses: Mapping[str, str]) -> None:
        """Watch guests at the addresses that this machine's configuration has for them."""
        for name, address in addresses.items():
            asked = self._begin(name, address)
            if asked is not None:
                self._guests.append(asked)

    def _begin(self, name: str, address: str) -> Asked | None:
        way = self._icmp(address)
        if way is None:
            self._notes.append(f"{name} was not watched: it does not answer ICMP at {address}")
            return None
        asked = Asked(name, address, way, self._clock)
        OUTSIDE.add(asked)
        return asked

    def told(self, patience_s: float = PATIENCE_S) -> Watched:
        """Wait for all to answer again, for a limited time; return what was seen."""
        deadline = Deadline.after(patience_s, self._clock)
        while not all(one.answers for one in self._everyone) and not deadline.expired:
            self._clock.sleep(INTERVAL_S)
        host = self._host.told() if self._host else None
        return Watched(host, tuple(one.told() for one in self._guests), tuple(self._notes))

    def close(self) -> None:
        """Ask no more."""
        for one in self._everyone:
            OUTSIDE.remove(one)
            one.close()


def is_address(text: str) -> bool:
    """Return True for an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _same(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return False
