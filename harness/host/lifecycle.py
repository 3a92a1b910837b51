"""What state a guest can be in, and which operations are allowed in it.

Names follow libvirt's ``virDomainState``; see https://libvirt.org/html/libvirt-libvirt-domain.html
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class GuestState(StrEnum):
    """The states a guest can be in."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting down"
    SHUT_OFF = "shut off"
    CRASHED = "crashed"
    SUSPENDED = "suspended"  # guest S3 (ACPI): not our pause
    GONE = "gone"  # a transient guest that ended, or one that was undefined
    UNKNOWN = "unknown"


class Operation(StrEnum):
    """What this project does to a guest's vCPUs."""

    PAUSE = "pause"
    RESUME = "resume"


#: (state before, operation) → state after. What is not here is refused.
TRANSITIONS: dict[tuple[GuestState, Operation], GuestState] = {
    (GuestState.RUNNING, Operation.PAUSE): GuestState.PAUSED,
    (GuestState.PAUSED, Operation.RESUME): GuestState.RUNNING,
}

#: States that a guest does not leave by itself: nothing of it can be resumed any more.
ENDED = frozenset({GuestState.SHUT_OFF, GuestState.CRASHED, GuestState.GONE})


#: The reason of a guest that is shut off and comes back as it was: it was saved to disk.
SAVED = "saved"
#: The reason of a guest that is shut off here because it lives on another host.
MIGRATED = "migrated"
#: The reason of a pause during which libvirt starts a QEMU. It stays without end where libvirt was
#: killed before it knew that QEMU's pid: the next libvirt does not carry that start on.
STARTING = "starting up"


@dataclass(frozen=True)
class StateReading:
    """A guest's state and libvirt's reason for it, read in one call.

    ``reason`` is a word such as ``user``, ``migration``, ``ioerror``, ``unknown``.
    """

    state: GuestState
    reason: str

    def __str__(self) -> str:
        known = self.reason not in ("", "unknown")
        return f"{self.state} ({self.reason})" if known else str(self.state)


def allowed(state: GuestState, operation: Operation) -> bool:
    """Whether ``operation`` makes sense in ``state``."""
    return (state, operation) in TRANSITIONS
