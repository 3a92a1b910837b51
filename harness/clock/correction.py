"""Putting a guest's clock right: read, decide, try a method, read again, until it is right.

What may be done is decided in :mod:`harness.clock.policy`, for every reading; how it is done
is in :mod:`harness.clock.methods`.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from harness.clock.arithmetic import Sample, describe, surer
from harness.clock.at_once import Stepped
from harness.clock.methods import METHODS
from harness.clock.methods.protocol import Change, Method
from harness.clock.policy import OVERSHOOT_S, CorrectionPolicy, Decision, Remedy, decide
from harness.clock.sampling import never
from harness.clock.target import Reach
from harness.core.errors import HarnessError, ProbeError
from harness.core.records import ClockReading, Outcome
from harness.core.timebase import NS_PER_S, Deadline

#: Attempts with one method, one after the other, that bring the clock no nearer before the next
#: method is tried. One that did is no reason to give up: what it was late is known for the next.
ATTEMPTS = 3
#: Nearer than before by at least this part of it. So the attempts come to an end.
_NEARER = 0.1
_LEFT_ALONE = (Remedy.NOTHING, Remedy.LEAVE)
#: More than this is not the way's latency.
_LATE_S = 1.0
#: Of what an attempt was late, so much is made up for by the next at most. A machine that was busy
#: once need not be so again, and what is set early by no more than this can be slewed back.
_MAKE_UP_S = 0.8 * OVERSHOOT_S


@dataclass(frozen=True)
class Correction:
    """What was done."""

    method: str | None
    """The method that changed the clock last; None if none did."""
    after: ClockReading
    refused: str | None = None
    """Why the clock is not known to be within tolerance, in words."""
    attempts: tuple[str, ...] = ()
    """Every attempt and what came of it."""
    doubt: str | None = None
    """Why the clock, right as it is now, may not stay so."""
    verified_ns: int | None = None
    """When it was first seen to be right, on the host's CLOCK_MONOTONIC; None: it is not."""


def correct(
    reach: Reach,
    policy: CorrectionPolicy,
    deadline: Deadline,
    first: ClockReading | None = None,
    stepped: Stepped | None = None,
) -> Correction:
    """Bring the clock within tolerance of its target, if policy allows it.

    Where the way to the guest is too slow to tell that, it is brought as near as can be told.
    ``first`` is a reading just taken, if there is one; ``stepped`` a step just made instead.
    ``reach.turn`` learns whenever the clock has become right, before a time daemon is notified and
    the close reading. Raises a HarnessError only if the clock cannot be read.
    """
    return _Attempts(reach, policy, deadline).run(first, stepped)


@dataclass
class _Attempts:
    reach: Reach
    policy: CorrectionPolicy
    deadline: Deadline
    said: list[str] = field(default_factory=list)
    in_vain: Counter[str] = field(default_factory=Counter)
    """Attempts with a method since the last that brought the clock nearer."""
    nearest_s: dict[str, float] = field(default_factory=dict)
    late_s: dict[str, float] = field(default_factory=dict)
    settled: bool = False
    looked: bool = False
    """The last reading is a close one."""
    refined: bool = False
    read_ns: int = 0
    """When the last reading was begun, on the host's CLOCK_MONOTONIC."""
    verified_ns: int | None = None
    doubt: str | None = None
    used: Method | None = None
    """The method that changed the clock last."""
    stepped: bool = False
    found: ClockReading | None = None
    """The clock before anything was done about it."""

    def run(self, first: ClockReading | None, stepped: Stepped | None) -> Correction:
        if stepped is not None:
            reading = self._after(stepped)
        else:
            self.found = reading = first or self._read()
        while True:
            decision = self._decide(reading)
            if decision.remedy is Remedy.REFUSE:
                return self._done(reading, decision.reason)
            if decision.remedy in _LEFT_ALONE:
                if decision.remedy is Remedy.NOTHING:
                    self._verified()
                elif (again := self._later()) is not None:
                    reading = again
                    continue
                if self.used is None:
                    return self._done(reading, decision.reason)
                better = self._look_closely(self.used, reading)
                if better is None:
                    return self._done(reading, decision.reason)
                reading = better
                continue
            chosen = self._choose(decision)
            nearer = self._attempt(chosen, reading) if chosen else self._once_more()
            if nearer is None:
                return self._done(reading, self._nothing_left(decision))
            reading = nearer

    def _after(self, step: Stepped) -> ClockReading:
        """The clock since a step that came before any reading."""
        self.found, self.used, self.stepped = step.before, step.method, True
        try:
            after = self._read(first=step.after)
        except ProbeError:  # it was set by another as well: what it is now is to be read
            after = self._read()
        self._note(step.method, after)
        return after

    def _look_closely(self, used: Method, right: ClockReading) -> ClockReading | None:
        """Return the clock after one step of what is less urgent, if there is one left to take.

        As right as is urgent by now, so there is time to look as closely as one can, to take off
        what is left, and to notify a daemon, which may have moved the clock.
        """
        if not self.looked:
            self.looked = True
            return self._look(right)
        remedy = self._refinement(right)
        if not self.refined and remedy is not None:
            self.refined = True
            return self._attempt(remedy, right)
        if not self.settled and self._settle(used):
            return self._read(closely=True)
        return None

    def _look(self, right: ClockReading) -> ClockReading:
        """The clock as it is read with all samples, or as it is known to be still."""
        if self.reach.time_daemon is not None:  # which may have set it
            return self._read(closely=True)
        since_ns, self.read_ns = self.read_ns, self.reach.clock.monotonic_ns()
        with self.reach.turn.talking():
            close = self.reach.sampler.read(self.policy.samples, self.deadline)
        return surer(right, close, (self.reach.clock.monotonic_ns() - since_ns) / NS_PER_S)

    def _later(self) -> ClockReading | None:
        """Read the clock when other guests answer less: one that could be known better than this.

        None: it could not, or not by now.
        """
        surest_s = self.reach.sampler.surest_s + self.policy.target_uncertainty_s
        if surest_s <= self.policy.tolerance_s and self.reach.turn.later():
            with suppress(HarnessError):
                return self._read()
        return None

    def _once_more(self) -> ClockReading | None:
        """As ``_later``, where all attempts were in vain: a busy guest does all of it late."""
        again = self._later() if self.used is not None else None
        if again is not None:
            self.in_vain.clear()
            self.nearest_s.clear()
            self.late_s.clear()
        return again

    def _refinement(self, right: ClockReading) -> Method | None:
        """A method that takes off what is left of an error, as exact as it is small."""
        if not self.policy.could_be_nearer(right):
            return None
        may_step = self.policy.error_s(right) < 0 or self.policy.allow_backward
        chosen = self._choose(Decision(Remedy.SLEW, "", may_step=may_step))
        exact = chosen is not None and (chosen.remedy is Remedy.SLEW or self.reach.sampler.can_step)
        return chosen if exact else None

    def _decide(self, reading: ClockReading) -> Decision:
        if self.policy.judge(reading) is Outcome.FAIL:
            self.verified_ns = None  # it was right, and is so no more
        return decide(reading, self.policy, stepped=self.stepped)

    def _read(self, *, closely: bool = False, first: Sample | None = None) -> ClockReading:
        # What counts is whether the reading can tell right from wrong: half the tolerance will do.
        self.read_ns = self.reach.clock.monotonic_ns()
        with self.reach.turn.talking():
            return self.reach.sampler.read_well(
                self.policy.samples,
                self.policy.tolerance_s / 2,
                self.deadline,
                enough=never if closely else self.policy.is_enough,
                first=first,
                busy_s=self.reach.turn.busy_s,
            )

    def _choose(self, decision: Decision) -> Method | None:
        """The first method that fits, works in this guest, and is not used up."""
        remedies = [decision.remedy]
        if decision.remedy is Remedy.SLEW and decision.may_step:
            remedies.append(Remedy.STEP)
        for remedy in remedies:
            for method in (METHODS[name] for name in self.policy.methods):
                usable = method.remedy is remedy and self.in_vain[method.name] < ATTEMPTS
                if usable and method.obstacle(self.reach) is None:
                    return method
        return None

    def _attempt(self, method: Method, reading: ClockReading) -> ClockReading:
        """Try ``method`` once; return what the clock is like then."""
        change = Change(reading, self.policy.target_s, self.late_s.get(method.name, 0.0))
        try:
            method.apply(self.reach, change, self.deadline)
        except HarnessError as error:
            if self.deadline.expired:
                raise
            self.in_vain[method.name] = ATTEMPTS
            self.said.append(f"{method.name}: {_words(error)}")
            return self._read()
        self.settled = self.looked = False
        after = self._read()
        if self.policy.judge(after) is not Outcome.PASS:
            self.verified_ns = None
        self._note(method, after)
        if abs(after.offset_s - reading.offset_s) > abs(change.shift_ns) / NS_PER_S / 2:
            self.used, self.stepped = method, self.stepped or method.remedy is Remedy.STEP
        return after

    def _note(self, method: Method, reading: ClockReading) -> None:
        error_s = self.policy.error_s(reading)
        if abs(error_s) < (1 - _NEARER) * self.nearest_s.get(method.name, math.inf):
            self.nearest_s[method.name], self.in_vain[method.name] = abs(error_s), 0
        self.in_vain[method.name] += 1
        if abs(error_s) < _LATE_S:
            late_s = min(-error_s, _MAKE_UP_S)
            self.late_s[method.name] = self.late_s.get(method.name, 0.0) + late_s
        self.said.append(f"{method.name}: {describe(error_s)}")

    def _settle(self, method: Method) -> bool:
        """Notify the daemon, once a step. Return True if it was: then read the clock again."""
        self.settled = True
        try:
            return method.settle(self.reach, self.deadline)
        except HarnessError as error:
            self.doubt = _words(error)
            return False

    def _verified(self) -> None:
        if self.verified_ns is None:
            self.verified_ns = self.reach.clock.monotonic_ns()
            self.reach.turn.right()

    def _nothing_left(self, decision: Decision) -> str:
        if self.said:
            return "still not right" if self.used else f"not corrected: {'; '.join(self.said)}"
        if decision.reason:
            return decision.reason
        obstacles = (
            f"{name}: {METHODS[name].obstacle(self.reach) or 'not for this offset'}"
            for name in self.policy.methods
        )
        return f"no method works in this guest: {'; '.join(obstacles)}"

    def _done(self, reading: ClockReading, refused: str = "") -> Correction:
        refused = self._with_what_was_done(refused) if refused else ""
        return Correction(
            self.used.name if self.used else None,
            reading,
            refused or None,
            tuple(self.said),
            self.doubt,
            None if refused else self.verified_ns,
        )

    def _with_what_was_done(self, refused: str) -> str:
        """A clock that was set is not called anything else because it is not right yet."""
        if self.used is not None and self.found is not None:
            was = describe(self.policy.error_s(self.found))
            refused = f"set by {self.used.name} (it was {was}); {refused}"
        if self.said and not refused.startswith("not corrected"):
            refused = f"{refused}; tried: {'; '.join(self.said)}"
        return refused


def _words(error: HarnessError) -> str:
    """What happened and what can be done; the caller adds the guest's name."""
    return f"{error.message} (hint: {error.hint})" if error.hint else error.message
