"""Has this machine CPUs to spare, and this process time? By what the kernel counts."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock

#: A shorter while says little: the kernel counts in ticks of 10 ms.
_LEAST_S = 0.020
#: Of the machine's CPUs, what must have been idle; of one CPU, what this process may have used.
#: Python runs one thread at a time: one that is busy gets no faster with more of them.
_IDLE_SHARE, _OWN_SHARE = 0.5, 0.5
#: The columns of /proc/stat's first line that count idle time: ``idle`` and ``iowait``.
_IDLE = slice(3, 5)


class Slack:
    """Looks at CPU times; for one thread at a time."""

    def __init__(self, stat: Path = Path("/proc/stat"), clock: Clock = SYSTEM_CLOCK) -> None:
        """``stat``: where the kernel counts the CPUs' times."""
        self._stat = stat
        self._clock = clock
        self._seen = self._look()

    def there_is(self) -> bool | None:
        """Return whether there has been some since the last answer; None: too short a while ago.

        False where it cannot be told.
        """
        now = (self._clock.monotonic_ns(), _own_s())
        took_s = (now[0] - self._seen[0]) / NS_PER_S
        if took_s < _LEAST_S:
            return None
        before, self._seen = self._seen, self._look()
        if before[2] is None or self._seen[2] is None:
            return False
        idle_cpus = (self._seen[2] - before[2]) / os.sysconf("SC_CLK_TCK") / took_s
        own_cpus = (now[1] - before[1]) / took_s
        return idle_cpus >= _IDLE_SHARE * (os.cpu_count() or 1) and own_cpus <= _OWN_SHARE

    def _look(self) -> tuple[int, float, int | None]:
        """(when, this process's CPU seconds, the machine's idle ticks)."""
        try:
            with self._stat.open(encoding="ascii") as lines:
                idle = sum(map(int, lines.readline().split()[1:][_IDLE]))
        except (OSError, ValueError):
            idle = None
        return self._clock.monotonic_ns(), _own_s(), idle


def _own_s() -> float:
    """CPU seconds that this process has used, all threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
