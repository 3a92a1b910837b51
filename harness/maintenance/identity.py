"""Is what answers the login the libvirt guest that would be paused? Evidence, strongest first.

1. The machine's UUID, which libvirt hands QEMU and firmware tells root: no two guests of a host
   share it.
2. A MAC of the guest's description that no other guest of the host has, on a network device.
3. The kernel's boot id, through the guest agent: what another channel of this very guest tells.

What is proved to be another machine is refused, what cannot be told is a warning. Why in this
order is in docs/adr/0021-identity.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.core.errors import HarnessError, WrongGuest
from harness.core.identity import boot_id
from harness.core.records import IdentityRecord
from harness.core.timebase import Deadline
from harness.guest.facts import GuestFacts
from harness.guest.machine import is_uuid
from harness.guest.protocol import Way
from harness.host.lifecycle import ENDED
from harness.host.protocol import GuestInfo, Hypervisor

HINT_WRONG = (
    'correct its address: [[guest]] name = "…" address = "…" in harness.toml, HostName in '
    "~/.ssh/config, or a stale DHCP lease"
)


class BoundBy(StrEnum):
    """The evidence that bound a login to a guest."""

    MACHINE_UUID = "machine-uuid"
    MAC = "mac"
    GUEST_AGENT = "guest-agent"
    AGENT_CHANNEL = "agent-channel"
    """No login at all: the guest agent was asked through the guest's own QEMU."""


@dataclass(frozen=True)
class Found:
    """What one login found: how it got there, and what answers."""

    info: GuestInfo
    """The guest that it is meant for."""
    way: Way
    facts: GuestFacts
    machine_uuid: str | None
    """None: this user may not read it, or the machine has none."""


def identify(found: Found, hypervisor: Hypervisor, deadline: Deadline) -> IdentityRecord:
    """Return what binds a login to its guest, or why nothing does.

    Raises WrongGuest for what is proved to be another machine, HypervisorError where libvirt does
    not tell of the host's other guests.
    """
    told, info = found.machine_uuid, found.info
    if found.facts.boot_id == boot_id():
        raise WrongGuest(
            f"what answers at {found.way.shown} is the machine that harness runs on, "
            f"not {info.name} (boot id {found.facts.boot_id})",
            guest=info.name,
            hint=f"{HINT_WRONG}; harness cannot pause the machine that it runs on",
        )
    if told is not None and is_uuid(told, info.uuid):
        return _record(found, BoundBy.MACHINE_UUID, f"machine UUID {told}")
    others = _others(info, hypervisor, deadline)
    mine = own_macs(info, others) & found.facts.machine.macs
    if told is None and mine:
        return _record(found, BoundBy.MAC, f"MAC {', '.join(sorted(mine))}")
    if (booted := _by_agent(info, hypervisor, deadline)) is not None:
        if booted != found.facts.boot_id:
            raise _wrong(found, others, f"the guest agent of {info.name} tells another boot id")
        return _record(found, BoundBy.GUEST_AGENT, f"boot id {booted}, told by the guest agent")
    if told is not None:
        raise _wrong(found, others, f"its machine UUID is {told}, that of {info.name} {info.uuid}")
    if _owner(found, others) is not None:
        raise _wrong(found, others, "by its MAC")
    return _record(found, None, _why_unbound(info, found.facts))


def bound_by_channel(facts: GuestFacts) -> IdentityRecord:
    """Return what binds an answer of the guest agent: it comes by the guest's own QEMU.

    libvirt opened the channel when it started that QEMU, so no other machine can answer there.
    """
    return IdentityRecord(
        bound_by=BoundBy.AGENT_CHANNEL.value,
        detail="the guest agent answered by the channel of the guest's own QEMU, through libvirt",
        machine_uuid=facts.machine.uuid,
        boot_id=facts.boot_id or None,
    )


def _others(info: GuestInfo, hypervisor: Hypervisor, deadline: Deadline) -> list[GuestInfo]:
    """Those guests of the host that can be what answers; one that is shut off cannot."""
    known = hypervisor.guests(deadline)
    return [one for one in known if one.uuid != info.uuid and one.state.state not in ENDED]


def own_macs(info: GuestInfo, others: Sequence[GuestInfo]) -> frozenset[str]:
    """Return the MACs of a guest's description that none of the others has."""
    return frozenset(info.macs) - {mac for other in others for mac in other.macs}


def _by_agent(info: GuestInfo, hypervisor: Hypervisor, deadline: Deadline) -> str | None:
    try:
        return hypervisor.agent_facts(info.uuid, deadline).boot_id
    except HarnessError:
        return None


def _owner(found: Found, others: Sequence[GuestInfo]) -> GuestInfo | None:
    """The other guest of the host that answers, if it is one."""
    told = found.machine_uuid
    for other in others:
        if told is not None and is_uuid(told, other.uuid):
            return other
    ours = frozenset(found.info.macs)
    seen = found.facts.machine.macs
    owners = [one for one in others if (frozenset(one.macs) & seen) - ours]
    return owners[0] if len(owners) == 1 else None


def _wrong(found: Found, others: Sequence[GuestInfo], evidence: str) -> WrongGuest:
    owner = _owner(found, others)
    who = f"guest {owner.name}" if owner else "another machine, and no guest of this host"
    return WrongGuest(
        f"what answers at {found.way.shown} is {who}, not {found.info.name} ({evidence})",
        guest=found.info.name,
        hint=HINT_WRONG,
    )


def _why_unbound(info: GuestInfo, facts: GuestFacts) -> str:
    if not info.macs:
        macs = "libvirt knows no MAC of it"
    elif not facts.machine.macs:
        macs = "what answers shows no MAC"
    else:
        macs = f"the MACs of what answers ({', '.join(sorted(facts.machine.macs))}) tell nothing"
    return f"its machine UUID cannot be read by this login, {macs}, and no guest agent tells"


def _record(found: Found, by: BoundBy | None, detail: str) -> IdentityRecord:
    return IdentityRecord(
        bound_by=None if by is None else by.value,
        detail=detail,
        machine_uuid=found.machine_uuid,
        boot_id=found.facts.boot_id,
        host_key=found.way.host_key or None,
    )
