"""libvirt's numbers for states and reasons as words (virDomainState and its reason enums)."""

from __future__ import annotations

import libvirt

from harness.host.lifecycle import GuestState, StateReading

STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: GuestState.UNKNOWN,
    libvirt.VIR_DOMAIN_RUNNING: GuestState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: GuestState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: GuestState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: GuestState.SHUTTING_DOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: GuestState.SHUT_OFF,
    libvirt.VIR_DOMAIN_CRASHED: GuestState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: GuestState.SUSPENDED,
}

#: Which constants name the reasons of a state: their common beginning. Not SHUTDOWN: the flags of
#: virDomainShutdownFlags begin alike, and it has no reason worth telling.
_REASON_PREFIXES = {
    libvirt.VIR_DOMAIN_RUNNING: "VIR_DOMAIN_RUNNING_",
    libvirt.VIR_DOMAIN_PAUSED: "VIR_DOMAIN_PAUSED_",
    libvirt.VIR_DOMAIN_SHUTOFF: "VIR_DOMAIN_SHUTOFF_",
    libvirt.VIR_DOMAIN_CRASHED: "VIR_DOMAIN_CRASHED_",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "VIR_DOMAIN_PMSUSPENDED_",
}


def _reasons() -> dict[tuple[int, int], str]:
    return {
        (state, value): name.removeprefix(prefix).lower().replace("_", " ")
        for state, prefix in _REASON_PREFIXES.items()
        for name, value in vars(libvirt).items()
        if name.startswith(prefix) and not name.endswith("_LAST")
    }


REASONS = _reasons()


def reading(state: int, reason: int) -> StateReading:
    """The pair that ``virDomainGetState`` returns, in words."""
    return StateReading(
        STATES.get(state, GuestState.UNKNOWN), REASONS.get((state, reason), "unknown")
    )
