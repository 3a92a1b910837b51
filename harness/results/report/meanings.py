"""What each check means, in a sentence, for a run's page; docs/reference/checks.md says how."""

from __future__ import annotations

from collections.abc import Mapping

from harness.core.settings import CheckName

MEANINGS: Mapping[CheckName, str] = {
    "pause-window": "The guest was paused no longer than the budget, by the host's clock.",
    "identity": "The machine that was looked at is the guest that was paused.",
    "downtime": "The guest was silent for the pause, no longer, and for all of it.",
    "clock": "The guest's clock is right in the end, within its tolerance.",
    "watch": "The guest's clock stayed right while it was watched.",
    "lag": "The pause cost the guest's clock exactly the pause; allowed: as expected.",
    "frozen": "The guest's monotonic clock stood still for the pause; allowed: as expected.",
    "vcpus": "The guest's virtual CPUs used no CPU time while it was paused.",
    "same-boot": "The guest was not rebooted.",
    "same-process": "The guest runs in the QEMU process that it should run in.",
    "libvirt-events": "libvirt told of what the run did to the guest, and of nothing else.",
    "qemu-version": "The guest runs in the QEMU that was planned (kind qemu).",
    "ram-inode": "The guest has the very RAM files that it had before (kind qemu).",
    "host-kernel": "The host runs the kernel that it was to go on in (kind kernel).",
    "host-boot": "The host was booted, and that boot has taken its guests over (kind kernel).",
    "host-clock": "The host's clock was right when guests were measured (kind kernel).",
    "ram": "The guest's memory stayed resident: not swapped, not read again.",
    "canary": "What a process held in the guest's memory is unchanged.",
    "processes": "What had run in the guest for a while goes on.",
    "connections": "No TCP connection of the guest broke.",
    "mounts": "Every file system of the guest is mounted as before.",
    "tcp-session": "Every byte of a TCP session arrived, once, in order.",
    "disk": "What was written and fsync'd is on the guest's disk.",
    "timers": "Timers in the guest fired in time, and no timer unit was lost.",
    "kernel-log": "The guest's kernel reported no stall and no I/O error.",
}
#: Checks whose figure is to be as expected, and not at most what is allowed.
EXPECTED: frozenset[CheckName] = frozenset(("lag", "frozen"))
_OWN = "A check of the configuration's own (`[[checks.own]]`): the exit status of an executable."


def meaning(name: str) -> str:
    """Return what the check of that name means."""
    known: Mapping[str, str] = {str(one): said for one, said in MEANINGS.items()}
    return known.get(name, _OWN)
