"""The arithmetic of comparing two clocks; pure.

Offsets are guest − host: negative means the guest is slow. The method is NTP's (RFC 5905, §8):
the host sends at T1, the guest receives at T2 and sends at T3, the host receives at T4. Then

    offset = ((T2 − T1) + (T3 − T4)) / 2      round trip = (T4 − T1) − (T3 − T2)

and the true offset lies within offset ± round trip / 2, however asymmetric the two ways are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.records import ClockReading, Outcome

_NS = 1e-9
#: Linux lets a clock run faster or slower by a tenth at most (ADJ_TICK).
FASTEST_SLEW = 0.1
#: A clock that is left alone gains or loses no more than this: what NTP corrects at most (500 ppm).
_DRIFT = 5e-4


@dataclass(frozen=True)
class Sample:
    """One exchange. Host stamps are CLOCK_REALTIME and CLOCK_MONOTONIC, guest stamps likewise."""

    host_sent_ns: int
    guest_received_ns: int
    guest_sent_ns: int
    host_received_ns: int
    host_sent_monotonic_ns: int
    host_received_monotonic_ns: int
    guest_monotonic_ns: int | None = None
    """Read by the guest between receiving and sending; so is CLOCK_BOOTTIME."""
    guest_boottime_ns: int | None = None
    resolution_ns: int = 1
    """Of the guest's CLOCK_REALTIME as it was read; adds to the uncertainty."""
    monotonic_resolution_ns: int = 1
    host_doubt_ns: int = 0
    """± how well the host's CLOCK_REALTIME was known; adds to the uncertainty."""

    @property
    def round_trip_ns(self) -> int:
        """The time on the way, without the guest's own turnaround."""
        away = self.host_received_ns - self.host_sent_ns
        return away - (self.guest_sent_ns - self.guest_received_ns)

    @property
    def offset_ns(self) -> float:
        """Return guest − host."""
        there = self.guest_received_ns - self.host_sent_ns
        back = self.guest_sent_ns - self.host_received_ns
        return (there + back) / 2

    @property
    def uncertainty_ns(self) -> float:
        """Return ± how much of ``offset_ns`` the true offset is within.

        A round trip that is shorter than nothing is an error of the guest's clock, as large.
        """
        return abs(self.round_trip_ns) / 2 + self.resolution_ns + self.host_doubt_ns

    @property
    def possible(self) -> bool:
        """Return False if the guest took longer, by its clock, than the whole exchange took.

        Then its clock was set forwards in between. One that is slewed may gain ``FASTEST_SLEW``.
        """
        turnaround_ns = self.guest_sent_ns - self.guest_received_ns
        away_ns = self.host_received_monotonic_ns - self.host_sent_monotonic_ns
        return turnaround_ns <= away_ns * (1 + FASTEST_SLEW) + self.resolution_ns


def consistent(samples: Sequence[Sample]) -> bool:
    """Whether one clock could explain all samples; not so if one jumped between them.

    A clock that is being slewed, by a time daemon perhaps, does not jump: it may have moved by
    ``FASTEST_SLEW`` of the time that all of it took.
    """
    lowest = max(sample.offset_ns - sample.uncertainty_ns for sample in samples)
    highest = min(sample.offset_ns + sample.uncertainty_ns for sample in samples)
    took_ns = max(sample.host_received_monotonic_ns for sample in samples) - min(
        sample.host_sent_monotonic_ns for sample in samples
    )
    return lowest <= highest + FASTEST_SLEW * took_ns


def beside(first: Sample, other: Sample) -> Sample:
    """Return ``other``, which tells CLOCK_REALTIME only, with the clocks that ``first`` tells.

    Whatever the two clocks of a guest are apart, they stay apart, unless one is set in between:
    then ``consistent`` tells. What ``first`` does not know of its own adds to the resolution.
    """
    if first.guest_monotonic_ns is None:
        return other
    since_ns = other.guest_sent_ns - first.guest_sent_ns
    boottime_ns = first.guest_boottime_ns
    took_ns = first.guest_sent_ns - first.guest_received_ns
    return replace(
        other,
        guest_monotonic_ns=first.guest_monotonic_ns + since_ns,
        guest_boottime_ns=None if boottime_ns is None else boottime_ns + since_ns,
        monotonic_resolution_ns=first.monotonic_resolution_ns + first.resolution_ns + took_ns,
    )


def best(samples: Sequence[Sample]) -> ClockReading:
    """Return the reading of the surest sample; ``samples`` must not be empty."""
    chosen = min(samples, key=lambda sample: sample.uncertainty_ns)
    monotonic_s = monotonic_uncertainty_s = None
    if chosen.guest_monotonic_ns is not None:
        sent, received = chosen.host_sent_monotonic_ns, chosen.host_received_monotonic_ns
        monotonic_s = (chosen.guest_monotonic_ns - (sent + received) / 2) * _NS
        monotonic_uncertainty_s = ((received - sent) / 2 + chosen.monotonic_resolution_ns) * _NS
    return ClockReading(
        offset_s=chosen.offset_ns * _NS,
        uncertainty_s=chosen.uncertainty_ns * _NS,
        monotonic_s=monotonic_s,
        monotonic_uncertainty_s=monotonic_uncertainty_s,
        samples=len(samples),
        boottime_minus_monotonic_s=_asleep_s(chosen),
        host_ahead_s=(chosen.host_sent_ns - chosen.host_sent_monotonic_ns) * _NS,
    )


def surer(earlier: ClockReading, later: ClockReading, apart_s: float) -> ClockReading:
    """Return which of two readings says more of a clock now that was not set in between.

    ``later``, unless it is less sure than ``earlier`` is still, ``apart_s`` after it, and does not
    contradict that.
    """
    known_s = earlier.uncertainty_s + _DRIFT * apart_s
    if earlier.host_ahead_s is not None and later.host_ahead_s is not None:
        known_s += abs(later.host_ahead_s - earlier.host_ahead_s)
    if later.uncertainty_s <= known_s:
        return later
    if abs(later.offset_s - earlier.offset_s) > later.uncertainty_s + known_s:
        return later
    return earlier.model_copy(update={"uncertainty_s": known_s})


def _asleep_s(sample: Sample) -> float | None:
    """CLOCK_BOOTTIME − CLOCK_MONOTONIC of the guest: how long it was suspended, by itself."""
    if sample.guest_monotonic_ns is None or sample.guest_boottime_ns is None:
        return None
    return (sample.guest_boottime_ns - sample.guest_monotonic_ns) * _NS


def judge_offset(offset_s: float, uncertainty_s: float, tolerance_s: float) -> Outcome:
    """The interval rule: PASS or FAIL only if the whole interval says so, else ERROR."""
    if abs(offset_s) + uncertainty_s <= tolerance_s:
        return Outcome.PASS
    if abs(offset_s) - uncertainty_s > tolerance_s:
        return Outcome.FAIL
    return Outcome.ERROR


def describe(offset_s: float) -> str:
    """``5.003 s slow``, ``45 µs fast``: people are shown words, not signs."""
    return f"{size(offset_s)} {'slow' if offset_s < 0 else 'fast'}"


def size(seconds: float) -> str:
    """Return ``5.003 s``, ``1.2 ms`` or ``45 µs``, without a sign."""
    length_s = abs(seconds)
    if length_s < 0.9995e-3:  # what would be rounded to 1000 of a unit is shown in the next
        return f"{length_s * 1e6:.0f} µs"
    return f"{length_s * 1e3:.1f} ms" if length_s < 0.99995 else f"{length_s:.3f} s"
