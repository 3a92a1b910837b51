"""What a series of readings says: jumps, drift, a step that was undone; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.clock.agent_answers import ProbeCounts
from harness.clock.arithmetic import describe
from harness.clock.policy import CorrectionPolicy
from harness.core.records import ClockReading, Jump, Outcome, ProbeRecord, WatchRecord

_NS = 1e-9
_PPM = 1e6
#: A clock may drift; beyond this it was moved. (Linux slews by 500 ppm by default.)
_STEADY = 500e-6


@dataclass(frozen=True)
class Point:
    """A reading and when it was taken: the host's CLOCK_MONOTONIC."""

    at_ns: int
    reading: ClockReading


def jumps(points: Sequence[Point]) -> tuple[Jump, ...]:
    """Where CLOCK_REALTIME moved by more than uncertainty and drift explain.

    A step of the host's own clock is none of the guest's, and is taken out.
    """
    return _jumps(
        points,
        [p.reading.offset_s + (p.reading.host_ahead_s or 0.0) for p in points],
        [p.reading.uncertainty_s for p in points],
    )


def monotonic_jumps(points: Sequence[Point]) -> tuple[Jump, ...]:
    """The same of CLOCK_MONOTONIC, which cannot be set: a guest that stood still, or worse."""
    known = [p for p in points if p.reading.monotonic_s is not None]
    return _jumps(
        known,
        [p.reading.monotonic_s or 0.0 for p in known],
        [p.reading.monotonic_uncertainty_s or 0.0 for p in known],
    )


def _jumps(
    points: Sequence[Point], values: Sequence[float], uncertain: Sequence[float]
) -> tuple[Jump, ...]:
    found = []
    for i in range(1, len(points)):
        moved_s = values[i] - values[i - 1]
        between_s = (points[i].at_ns - points[i - 1].at_ns) * _NS
        if abs(moved_s) > uncertain[i] + uncertain[i - 1] + _STEADY * between_s:
            since_s = (points[i].at_ns - points[0].at_ns) * _NS
            found.append(Jump(at_s=since_s, by_s=moved_s))
    return tuple(found)


def drift_ppm(points: Sequence[Point]) -> tuple[float, float] | None:
    """(rate, uncertainty) in ppm: the least-squares line, and the bound that the readings allow.

    The truth lies within rate ± uncertainty, for any clock that runs steadily. None for fewer than
    two points.
    """
    if len(points) < 2:
        return None
    middle_s = sum(p.at_ns * _NS for p in points) / len(points)
    times = [p.at_ns * _NS - middle_s for p in points]
    spread = sum(t * t for t in times)
    if spread <= 0:
        return None
    slope = sum(t * p.reading.offset_s for t, p in zip(times, points, strict=True)) / spread
    # A sum of errors, each at most its uncertainty, weighted as the line weighs the readings.
    doubt = sum(abs(t) * p.reading.uncertainty_s for t, p in zip(times, points, strict=True))
    return slope * _PPM, doubt / spread * _PPM


def judge_watch(
    points: Sequence[Point],
    policy: CorrectionPolicy,
    duration_s: float,
    counts: ProbeCounts | None,
    trouble: str = "",
) -> WatchRecord:
    """The record of a watch. FAIL: undone, a jump back, or a clock that went backwards."""
    moved, frozen = jumps(points), monotonic_jumps(points)
    errors = [policy.error_s(point.reading) for point in points]
    outcomes = [policy.judge(point.reading) for point in points]
    undone = Outcome.FAIL in outcomes and bool(moved)
    drift = drift_ppm(points) if not moved else None
    broken = _broken(points, policy, outcomes, undone, counts)
    outcome = Outcome.FAIL if broken else Outcome.PASS
    if not broken and (trouble or not points or outcomes[-1] is not Outcome.PASS):
        outcome = Outcome.ERROR
    return WatchRecord(
        outcome=outcome,
        duration_s=duration_s,
        readings=len(points),
        first_offset_s=points[0].reading.offset_s if points else None,
        last_offset_s=points[-1].reading.offset_s if points else None,
        worst_offset_s=max(errors, key=abs, default=None),
        drift_ppm=drift[0] if drift else None,
        drift_uncertainty_ppm=drift[1] if drift else None,
        jumps=moved,
        monotonic_jumps=frozen,
        undone=undone,
        witness=_probe_record(counts),
        detail="; ".join([*broken, *([trouble] if trouble else [])]),
    )


def _broken(
    points: Sequence[Point],
    policy: CorrectionPolicy,
    outcomes: Sequence[Outcome],
    undone: bool,
    counts: ProbeCounts | None,
) -> list[str]:
    """Every promise that was not kept, in words."""
    broken = []
    back = [jump for jump in jumps(points) if jump.by_s < 0]
    if undone:
        at = outcomes.index(Outcome.FAIL)
        error_s = policy.error_s(points[at].reading)
        broken.append(f"the clock was moved again: {describe(error_s)}")
    elif Outcome.FAIL in outcomes:
        broken.append("the clock ran out of tolerance")
    if back:
        broken.append(f"the clock jumped back by {-back[0].by_s:.4f} s after {back[0].at_s:.1f} s")
    broken += [
        f"CLOCK_MONOTONIC jumped by {jump.by_s:+.4f} s after {jump.at_s:.1f} s"
        for jump in monotonic_jumps(points)[:1]
    ]
    if counts and counts.went_back:
        worst_s = counts.worst_back_ns * _NS
        broken.append(f"CLOCK_REALTIME went back {counts.went_back} times, by {worst_s:.6f} s")
    if counts and counts.monotonic_went_back:
        broken.append("CLOCK_MONOTONIC went back")
    return broken


def _probe_record(seen: ProbeCounts | None) -> ProbeRecord | None:
    if seen is None:
        return None
    return ProbeRecord(
        looks=seen.looks,
        realtime_went_back=seen.went_back,
        worst_back_s=seen.worst_back_ns * _NS,
        jumps=seen.jumps,
        last_jump_s=seen.last_jump_ns * _NS,
        monotonic_went_back=seen.monotonic_went_back,
        longest_gap_s=seen.longest_gap_ns * _NS,
    )
