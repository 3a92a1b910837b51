"""What has become of a guest of which libvirt says that there is nothing to resume.

That libvirt does not know a guest is no proof that it has ended: libvirt may have lost its status,
while QEMU lives on with stopped vCPUs. And a guest that was saved to disk comes back as it was.
"""

from __future__ import annotations

from enum import StrEnum

from harness.core.errors import HypervisorError, ResumeFailed
from harness.core.timebase import Deadline
from harness.host.lifecycle import ENDED, MIGRATED, SAVED, GuestState
from harness.host.protocol import (
    STOPPED_MIGRATED,
    STOPPED_SAVED,
    EventKind,
    Hypervisor,
    ProcessIdentity,
)


class Fate(StrEnum):
    """What has become of a guest."""

    THERE = "there"
    """libvirt knows it, and it has not ended."""
    SAVED = "saved"
    """It is on disk, and comes back as it was."""
    AWAY = "away"
    """It was migrated, and lives on another host as it was."""
    LOST = "lost"
    """libvirt does not know it any more, but its process lives."""
    ENDED = "ended"


#: Why a guest that libvirt has forgotten stopped, by the last event of it.
_STOPPED = {STOPPED_SAVED: Fate.SAVED, STOPPED_MIGRATED: Fate.AWAY}


def fate_of(
    uuid: str, process: ProcessIdentity | None, hypervisor: Hypervisor, deadline: Deadline
) -> Fate:
    """Return what has become of a guest; ``process`` is its QEMU, None where that is not known.

    Raises HypervisorError or DeadlineExpired if libvirt does not say.
    """
    reading = hypervisor.state(uuid, deadline)
    if reading.state not in ENDED:
        return Fate.THERE
    if reading.state is GuestState.SHUT_OFF and reading.reason == SAVED:
        return Fate.SAVED
    if reading.state is GuestState.SHUT_OFF and reading.reason == MIGRATED:
        return Fate.AWAY
    if reading.state is not GuestState.GONE:
        return Fate.ENDED
    if process is not None and hypervisor.lives(process):
        return Fate.LOST
    stops = [event for event in hypervisor.events(uuid) if event.kind is EventKind.STOPPED]
    return _STOPPED.get(stops[-1].detail, Fate.ENDED) if stops else Fate.ENDED


def lost(guest: str, process: ProcessIdentity) -> HypervisorError:
    """Return the error that says so of a guest that libvirt has lost."""
    return ResumeFailed(
        f"libvirt does not know it any more, but its QEMU process {process.pid} lives, and nothing "
        "has resumed it",
        operation="resuming",
        guest=guest,
        hint="harness recover says how to resume it by QEMU's monitor",
    )
