"""What a person does about a guest that could not be resumed, by its state now."""

from __future__ import annotations

from harness.core.errors import HarnessError
from harness.core.timebase import Deadline
from harness.host.advice import way_on
from harness.host.lifecycle import GuestState, StateReading
from harness.host.protocol import Hypervisor
from harness.results.journal import Member


def resume_hint(member: Member, hypervisor: Hypervisor, deadline: Deadline) -> str:
    """Return commands to paste; those for a paused guest where libvirt does not say what it is."""
    try:
        reading = hypervisor.state(member.uuid, deadline)
    except HarnessError:
        reading = StateReading(GuestState.PAUSED, "unknown")
    return way_on(reading, hypervisor.uri, member.name, member.uuid)
