"""What a person does about a guest that could not be resumed, by its state now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.pasteable import command
from harness.core.timebase import Deadline
from harness.host.advice import way_on
from harness.host.lifecycle import GuestState, StateReading
from harness.host.lock import holding
from harness.host.protocol import GuestInfo, Hypervisor
from harness.results.journal import Member

#: The commands that let QEMU's monitor run the vCPUs; for printf(1).
_CONT = r'{"execute": "qmp_capabilities"}\n{"execute": "cont"}\n'


@dataclass(frozen=True)
class Beside:
    """What the kernel tells of a guest beside libvirt's state of it."""

    lives: bool = False
    """Its QEMU process is there."""
    restored: bool = False
    """That process took the guest over from the disk."""
    monitor: Path | None = None
    """Where that process can be told to go on."""


def what_helps(member: Member, uri: str, reading: StateReading, beside: Beside) -> str:
    """Return commands to paste.

    A guest that libvirt has lost while its process lives must not be defined and started again: two
    QEMUs would write to its disks.
    """
    if reading.state is GuestState.GONE and beside.lives:
        if beside.monitor is None:
            return "QEMU's monitor can resume it, see docs/how-to/recover.md; do not start it again"
        socket = command("socat", "-", f"UNIX-CONNECT:{beside.monitor}")
        return f"printf '{_CONT}' | {socket}"
    if reading.state is GuestState.PAUSED and beside.restored:
        reading = replace(reading, reason="user")  # libvirt goes on to say "migration"
    return way_on(reading, uri, member.name, member.uuid)


def resume_hint(member: Member, hypervisor: Hypervisor, deadline: Deadline) -> str:
    """Return commands to paste; those for a paused guest where libvirt does not say what it is."""
    try:
        reading = hypervisor.state(member.uuid, deadline)
        process = hypervisor.process(member.uuid, deadline)
    except HarnessError:
        reading, process = StateReading(GuestState.PAUSED, "unknown"), None
    beside = Beside()
    if process is not None and hypervisor.lives(process):
        beside = Beside(True, hypervisor.restored(process), hypervisor.monitor(process))
    return what_helps(member, hypervisor.uri, reading, beside)


def way_to_run(info: GuestInfo, uri: str) -> str:
    """Return how a guest that does not run is brought to run again.

    Of a paused one whose host is held: who holds it, and what ends that; a pause of another run is
    not ended by hand.
    """
    held_by = holding(uri) if info.state.state is GuestState.PAUSED else ""
    return held_by or way_on(info.state, uri, info.name, info.uuid)
