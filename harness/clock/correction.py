"""Putting a guest's clock right: the policy, and the methods in the order they are tried.

A method is a small class; to add one, write it and add it to ``METHODS``. Each attempt starts
from a fresh reading and is verified by measuring again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.clock.arithmetic import describe, judge_offset
from harness.clock.sampling import Sampler
from harness.errors import ProbeError
from harness.records import ClockReading, Outcome
from harness.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline

#: Attempts with one method before the next is tried.
ATTEMPTS = 3
#: How far ahead a whole second must be so that a command for it can be sent in time.
_LEAD_S = 0.1


@dataclass(frozen=True)
class CorrectionPolicy:
    """What may be done about a clock; seconds."""

    tolerance_s: float
    allow_backward: bool = False
    ceiling_s: float = 86_400.0
    samples: int = 8


@dataclass(frozen=True)
class Correction:
    """What was done."""

    method: str | None
    """The method that brought the clock within tolerance; None if none was needed, or none did."""
    after: ClockReading
    refused: str | None = None
    """Why the clock is not within tolerance, in words."""
    attempts: tuple[str, ...] = ()
    """Every attempt and what came of it."""


class Method(Protocol):
    """One way to correct a clock."""

    name: str

    def available(self, sampler: Sampler) -> bool:
        """Whether this guest can be corrected this way."""

    def correct(self, sampler: Sampler, reading: ClockReading, deadline: Deadline) -> None:
        """Take ``reading.offset_s`` off the clock. Raises ProbeError or a ShellError."""


class RelativeStep:
    """One ``clock_adjtime(ADJ_SETOFFSET)`` in the guest: the way there costs no accuracy."""

    name = "relative-step"

    def available(self, sampler: Sampler) -> bool:
        return sampler.can_step

    def correct(self, sampler: Sampler, reading: ClockReading, deadline: Deadline) -> None:
        sampler.step(round(-reading.offset_s * NS_PER_S), deadline)


class DateAtSecond:
    """``date -s`` of a whole second, sent so that it takes effect just then.

    For guests with nothing but a shell, whose ``date`` knows whole seconds only. The command is
    sent half the reading's round trip early; that half is what the reading calls uncertainty.
    """

    name = "date-at-second"

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock

    def available(self, sampler: Sampler) -> bool:
        return not sampler.can_step

    def correct(self, sampler: Sampler, reading: ClockReading, deadline: Deadline) -> None:
        lead_ns = round((_LEAD_S + reading.uncertainty_s) * NS_PER_S)
        second = (self._clock.realtime_ns() + lead_ns) // NS_PER_S + 1
        send_at_ns = second * NS_PER_S - round(reading.uncertainty_s * NS_PER_S)
        self._clock.sleep((send_at_ns - self._clock.realtime_ns()) / NS_PER_S)
        sampler.set_second(second, deadline)


#: In the order in which they are tried.
METHODS: tuple[Method, ...] = (RelativeStep(), DateAtSecond())


def correct(
    sampler: Sampler,
    policy: CorrectionPolicy,
    deadline: Deadline,
    first: ClockReading | None = None,
) -> Correction:
    """Bring the clock within tolerance of the host's, if policy allows it.

    ``first`` is a reading just taken, if there is one. Raises a HarnessError only if the clock
    cannot be read.
    """
    reading = first or sampler.read(policy.samples, deadline)
    if _good(reading, policy):
        return Correction(None, reading)
    refusal = _refusal(reading, policy)
    if refusal is not None:
        return Correction(None, reading, refusal)
    attempts: list[str] = []
    for method in METHODS:
        if not method.available(sampler):
            continue
        for _ in range(ATTEMPTS):
            try:
                method.correct(sampler, reading, deadline)
            except ProbeError as error:
                attempts.append(f"{method.name}: {error.message}")
                break
            reading = sampler.read(policy.samples, deadline)
            attempts.append(f"{method.name}: {describe(reading.offset_s)}")
            if _good(reading, policy):
                return Correction(method.name, reading, None, tuple(attempts))
    tried = "; ".join(attempts) or "no method works in this guest"
    return Correction(None, reading, f"not corrected: {tried}", tuple(attempts))


def _good(reading: ClockReading, policy: CorrectionPolicy) -> bool:
    verdict = judge_offset(reading.offset_s, reading.uncertainty_s, policy.tolerance_s)
    return verdict is Outcome.PASS


def _refusal(reading: ClockReading, policy: CorrectionPolicy) -> str | None:
    """Why this offset must not be corrected, in words; None if it may be."""
    offset_s, said = reading.offset_s, describe(reading.offset_s)
    if reading.uncertainty_s > policy.tolerance_s:
        return (
            f"the reading is only known to ± {reading.uncertainty_s:.4f} s, the tolerance is "
            f"{policy.tolerance_s:g} s"
        )
    if abs(offset_s) > policy.ceiling_s:
        return f"{said} is beyond the ceiling of {policy.ceiling_s:g} s; a person should look first"
    if offset_s > 0 and not policy.allow_backward:
        return f"{said}; setting it back is not allowed (hint: --allow-backward)"
    return None
