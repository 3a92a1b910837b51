"""By a difference: the way to the guest costs no accuracy."""

from __future__ import annotations

from harness.clock.agents import Ability
from harness.clock.methods.protocol import Change, Method
from harness.clock.policy import Remedy
from harness.clock.target import Reach
from harness.core.timebase import NS_PER_S, Deadline

#: How fast a clock is slewed at most: 90 ms in a second. Linux allows 100, from a tick of 10 ms.
_FASTEST_PPM = 90_000
#: A microsecond a tick, of which there are 10000: what ADJ_TICK can tell apart.
_TICK_PPM = 100
#: How long a slew takes at least. Its end is late by some milliseconds, more where that is a
#: process start on a busy machine: the error is that part of the whole.
_SLEW_S, _SHELL_SLEW_S = 0.1, 0.2
#: Processes that a shell starts between the two ends of a slew; what that takes is foreseen.
_STARTS = 2
#: A slew is not longer than this; what is left is for the next attempt.
_LONGEST_S = 2.0


class RelativeStep(Method):
    """One ``clock_adjtime(ADJ_SETOFFSET)`` in the guest (GNU ``date``'s relative step in sh)."""

    name = "relative-step"

    def obstacle(self, reach: Reach) -> str | None:
        """See :class:`Method`."""
        if Ability.STEP in reach.sampler.abilities:
            return None
        return f"the guest's {reach.sampler.interpreter} cannot make one"

    def is_step(self, reach: Reach) -> bool:
        """See :class:`Method`."""
        return True

    def apply(self, reach: Reach, change: Change, deadline: Deadline) -> None:
        """See :class:`Method`."""
        reach.sampler.step(change.shift_ns, deadline)


class Slew(Method):
    """The length of the tick (ADJ_TICK) changed for a while: no jump, and no clock goes back."""

    name = "slew"
    remedy = Remedy.SLEW

    def obstacle(self, reach: Reach) -> str | None:
        """See :class:`Method`."""
        if Ability.SLEW not in reach.sampler.abilities:
            return f"the guest's {reach.sampler.interpreter} cannot do it"
        if reach.time_daemon is not None:
            return f"{reach.time_daemon} sets the length of the tick itself"
        return None

    def apply(self, reach: Reach, change: Change, deadline: Deadline) -> None:
        """See :class:`Method`."""
        least_s = _SHELL_SLEW_S if reach.sampler.interpreter == "sh" else _SLEW_S
        ppm, duration_ns = slew_plan(change.shift_ns, least_s)
        starting_ns = round(_STARTS * reach.sampler.date_latency_s * NS_PER_S)
        reach.sampler.slew(ppm, max(0, duration_ns - starting_ns), deadline)


def slew_plan(shift_ns: int, least_s: float) -> tuple[int, int]:
    """(ppm, nanoseconds) that shift a clock by ``shift_ns``, in ``least_s`` or longer."""
    ticks = round(abs(shift_ns) / (least_s * NS_PER_S) * 1_000_000 / _TICK_PPM)
    ppm = max(1, min(ticks, _FASTEST_PPM // _TICK_PPM)) * _TICK_PPM
    duration_ns = min(abs(shift_ns) * 1_000_000 // ppm, round(_LONGEST_S * NS_PER_S))
    return (ppm if shift_ns > 0 else -ppm), duration_ns


class PtpKvm(Method):
    """KVM's PTP clock is the hypervisor's own clock, read in the guest without any way."""

    name = "ptp-kvm"

    def obstacle(self, reach: Reach) -> str | None:
        """See :class:`Method`."""
        if Ability.PTP in reach.sampler.abilities:
            return None
        return f"the guest's {reach.sampler.interpreter} cannot read it"

    def apply(self, reach: Reach, change: Change, deadline: Deadline) -> None:
        """See :class:`Method`."""
        reach.sampler.step_to_ptp(round(change.target_s * NS_PER_S), deadline)
