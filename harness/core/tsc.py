"""The CPU's time stamp counter, which goes on over a kexec, and the host's time by it.

CLOCK_MONOTONIC and CLOCK_BOOTTIME start from 0 with each kernel, and the RTC knows whole seconds:
after a kexec CLOCK_REALTIME is wrong by up to a second. The counter of a CPU with ``constant_tsc``
and ``nonstop_tsc`` is not touched. Beside :mod:`harness.core.timebase` the only module that reads
clocks, and the only one that sets one.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from harness.core.errors import MissingCapability

#: rdtsc; shl rdx, 32; or rax, rdx; ret
_RDTSC = bytes.fromhex("0f3148c1e2204809d0c3")
_ATTEMPTS = 20
#: How far the pace of a counter may be off, that was measured beforehand: with it the uncertainty
#: grows. Crystals change by less with temperature.
_DRIFT = 50e-6


@dataclass(frozen=True)
class Pair:
    """A counter and a clock, read at the same instant."""

    counts: int
    clock_ns: int
    width: int
    """How many counts apart they may have been read."""


@cache
def _reader() -> Callable[[], int]:
    if platform.machine() != "x86_64":
        raise MissingCapability("a TSC", "only x86_64 has a time stamp counter that is known here")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_RDTSC)
    anchor = ctypes.c_char.from_buffer(page)
    call = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(anchor))

    def read() -> int:
        return int(call()) if anchor is not None else 0  # the anchor keeps the page

    return read


def realtime() -> Pair:
    """Return the counter and CLOCK_REALTIME. Raises MissingCapability."""
    return _pair(time.CLOCK_REALTIME)


def steady() -> Pair:
    """Return the counter and CLOCK_MONOTONIC_RAW, which no time daemon slews."""
    return _pair(time.CLOCK_MONOTONIC_RAW)


def _pair(clock: int) -> Pair:
    read = _reader()
    found: list[Pair] = []
    for _ in range(_ATTEMPTS):
        before = read()
        now_ns = time.clock_gettime_ns(clock)
        after = read()
        found.append(Pair((before + after) // 2, now_ns, after - before))
    return min(found, key=lambda one: one.width)


def counts_per_ns(first: Pair, last: Pair) -> float:
    """Return the counter's pace between two pairs of a steady clock. 0 where nothing passed."""
    passed_ns = last.clock_ns - first.clock_ns
    return (last.counts - first.counts) / passed_ns if passed_ns > 0 else 0.0


def realtime_at(counts: int, then: Pair, pace: float) -> int:
    """Return CLOCK_REALTIME at ``counts``, as it would have gone on from ``then``; nanoseconds."""
    return then.clock_ns + round((counts - then.counts) / pace)


def uncertainty_ns(then: Pair, now: Pair, pace: float) -> int:
    """Return how well the time is known that :func:`realtime_at` tells; nanoseconds."""
    read_ns = (then.width + now.width) / pace
    return round(read_ns + _DRIFT * (now.counts - then.counts) / pace)


def has_gone_on(then: Pair, now: Pair) -> bool:
    """Return True if the counter was not set back, as a reset of the machine does."""
    return now.counts > then.counts


def set_realtime(then: Pair, pace: float) -> tuple[int, int]:
    """Set CLOCK_REALTIME as it would have gone on from ``then``.

    Returns by how much it was moved, and how well it is known now; nanoseconds. Raises OSError.
    """
    found = realtime()
    moved_ns = realtime_at(found.counts, then, pace) - found.clock_ns
    time.clock_settime_ns(time.CLOCK_REALTIME, realtime_at(_reader()(), then, pace))
    return moved_ns, uncertainty_ns(then, found, pace)
