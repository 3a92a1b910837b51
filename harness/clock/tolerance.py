"""How far off a guest's clock may be where the configuration does not say. Pure."""

from __future__ import annotations

from harness.clock.sampling import Sampler
from harness.clock.told import GUEST_AGENT
from harness.guest.facts import GuestOs

#: Allowed |offset| where the configuration names none; see docs/explanation/clocks.md.
DEFAULT_TOLERANCE_S = {
    "python3": 0.010,
    "perl": 0.010,
    "powershell": 0.010,
    "sh": 0.020,
    GUEST_AGENT: 0.020,
}
#: Where the shell must start a process to read the clock, or Windows tells that of its last tick.
COARSE_TOLERANCE_S = 0.050


def default_tolerance(sampler: Sampler, os: GuestOs) -> float:
    """Return seconds: what this guest's interpreter can keep."""
    if sampler.interpreter == GUEST_AGENT and os is GuestOs.WINDOWS:
        return COARSE_TOLERANCE_S
    if sampler.precise or sampler.interpreter == GUEST_AGENT:
        return DEFAULT_TOLERANCE_S[sampler.interpreter]
    return COARSE_TOLERANCE_S
