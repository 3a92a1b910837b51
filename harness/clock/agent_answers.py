"""What a clock agent answered, understood or refused; pure. Whatever a guest says is only data."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.clock.arithmetic import Sample
from harness.core.timebase import NS_PER_S, Ahead

#: /proc/uptime counts hundredths of a second and is cut, not rounded.
_UPTIME_RESOLUTION_NS = 10_000_000
_ADJTIMEX = re.compile(r"time\.tv_sec:\s*(\d+)\s+time\.tv_usec:\s*(\d+)")
#: Beyond 64 bits it is no time of any kernel.
_MOST_NS = 1 << 63


@dataclass(frozen=True)
class Sent:
    """When the host asked and when it had the answer."""

    sent_ns: int
    received_ns: int
    realtime: Ahead
    """The host's CLOCK_REALTIME: the stamps are of CLOCK_MONOTONIC."""


@dataclass(frozen=True)
class ProbeCounts:
    """What the agent saw of its own clocks between two questions, looking every 50 ms."""

    looks: int
    went_back: int
    """How often CLOCK_REALTIME went backwards, and by how much at most."""
    worst_back_ns: int
    jumps: int
    """How often CLOCK_REALTIME jumped against CLOCK_MONOTONIC, and the last such jump."""
    last_jump_ns: int
    monotonic_went_back: int
    longest_gap_ns: int


def number_of(answer: str) -> int | None:
    """The number of the question that this is an answer to; None if it has none."""
    first = answer.partition(" ")[0]
    return int(first) if first.isdecimal() and first.isascii() and len(first) < 19 else None


def parse_sample(answer: str, sent: Sent) -> Sample:
    """Raises ValueError or IndexError for what is no reading; the number is already taken off."""
    kind, *rest = answer.split(" ")
    if kind.isdecimal():
        guest = _Guest(int(kind), int(rest[0]), int(rest[1]), boottime=int(rest[2]))
    elif kind == "timer":
        guest = _timer_list(rest)
    elif kind == "epoch":
        guest = _epoch(rest)
    elif kind == "told":
        guest = _Guest(int(rest[0]), int(rest[0]), None, resolution=int(rest[1]))
    else:
        guest = _tool(kind, rest)
    stamps = (guest.received, guest.sent, guest.monotonic or 0, guest.boottime or 0)
    if not all(0 <= stamp < _MOST_NS for stamp in stamps):
        raise ValueError(answer)
    if guest.sent < guest.received and kind in ("timer", "epoch"):
        raise ValueError(answer)
    return Sample(
        host_sent_ns=sent.sent_ns + sent.realtime.ns,
        guest_received_ns=guest.received,
        guest_sent_ns=guest.sent,
        host_received_ns=sent.received_ns + sent.realtime.ns,
        host_sent_monotonic_ns=sent.sent_ns,
        host_received_monotonic_ns=sent.received_ns,
        guest_monotonic_ns=guest.monotonic,
        guest_boottime_ns=guest.boottime,
        resolution_ns=guest.resolution,
        monotonic_resolution_ns=guest.monotonic_resolution,
        host_doubt_ns=sent.realtime.doubt_ns,
    )


def parse_foreseen(answer: str, sent: Sent, by_ns: int) -> tuple[Sample, ...]:
    """Return the clock as it was before a step by ``by_ns``, and since, if it was made.

    Raises ValueError or IndexError for what is neither; the number is already taken off.
    """
    kind, *rest = answer.split(" ")
    if kind != "stepped":
        return (parse_sample(answer, sent),)
    received, after, stamp, *others = rest
    before = " ".join([received, str(int(stamp) - by_ns), *others])
    return parse_sample(before, sent), parse_sample(" ".join([after, stamp, *others]), sent)


def parse_probe(answer: str) -> ProbeCounts:
    """Raises ValueError or TypeError for anything else."""
    return ProbeCounts(*(int(word) for word in answer.split()))


@dataclass(frozen=True)
class _Guest:
    received: int
    sent: int
    monotonic: int | None
    boottime: int | None = None
    resolution: int = 1
    monotonic_resolution: int = 1


def _timer_list(rest: list[str]) -> _Guest:
    before, ahead, after = (int(word) for word in rest[:3])
    return _Guest(
        received=before + ahead,
        sent=after + ahead,
        monotonic=before,
        boottime=_uptime_ns(rest[3]),
        monotonic_resolution=1,
    )


def _epoch(rest: list[str]) -> _Guest:
    """What a shell tells by itself, in microseconds that are cut."""
    before, after = (_microseconds_ns(rest[number]) for number in (0, 2))
    boottime = _uptime_ns(rest[3])
    half = _UPTIME_RESOLUTION_NS // 2
    if rest[1] == "-":
        return _Guest(before, after, boottime + half, boottime + half, 1000, half)
    return _Guest(before, after, int(rest[1]), boottime, 1000)


def _microseconds_ns(word: str) -> int:
    seconds, _, fraction = word.partition(".")
    if len(fraction) != 6:
        raise ValueError(word)
    return int(seconds) * NS_PER_S + int(fraction) * 1000


def _tool(kind: str, rest: list[str]) -> _Guest:
    reading, resolution = _shell_reading(kind, " ".join(rest[1:]))
    half = _UPTIME_RESOLUTION_NS // 2
    uptime = _uptime_ns(rest[0]) + half
    return _Guest(reading, reading, uptime, uptime, resolution, half)


def _uptime_ns(word: str) -> int:
    seconds, _, hundredths = word.partition(".")
    return int(seconds) * NS_PER_S + int(hundredths.ljust(2, "0")[:2]) * _UPTIME_RESOLUTION_NS


def _shell_reading(kind: str, text: str) -> tuple[int, int]:
    """(nanoseconds, resolution) from what the sh agent's tool printed."""
    if kind == "adjtimex":
        found = _ADJTIMEX.search(text)
        if found is None:
            raise ValueError(text)
        return int(found[1]) * NS_PER_S + int(found[2]) * 1000, 1000
    seconds, _, fraction = text.partition(".")
    if kind == "date":
        return int(seconds) * NS_PER_S + int(fraction), 1
    if kind != "seconds":
        raise ValueError(kind)
    # Whole seconds, cut: the middle of the second is the best guess.
    return int(seconds) * NS_PER_S + NS_PER_S // 2, NS_PER_S // 2
