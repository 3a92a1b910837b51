"""What is looked at first in a guest that was got into: its facts, its clock, and that it is it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.clock.one_channel import enter
from harness.clock.programs import Programs
from harness.clock.sampling import Sampler
from harness.clock.target import OwedTicks, Reach
from harness.clock.told import ToldClock
from harness.core.records import IdentityRecord
from harness.core.settings import ClockSection
from harness.core.timebase import Clock, Deadline
from harness.guest.agent_channel import GET_TIME, SET_TIME
from harness.guest.agent_facts import facts_told, own_address
from harness.guest.agent_shell import AgentShell
from harness.guest.facts import GuestFacts, GuestOs, gather
from harness.guest.protocol import GuestShell, Language, Looks, Python
from harness.host.protocol import GuestInfo, Hypervisor
from harness.host.timekeeping import reinjects_ticks
from harness.maintenance.agent import ChannelClock, GuestAgentClock
from harness.maintenance.agents_foreseen import limits_of, refusal_of
from harness.maintenance.identity import Found, bound_by_channel, identify


@dataclass(frozen=True)
class Inside:
    """One guest, looked at once; its sampler is open."""

    facts: GuestFacts
    sampler: Sampler
    reach: Reach
    identity: IdentityRecord
    limits: str | None = None
    """What this way into the guest cannot tell, and why; None: nothing is beyond it."""
    python: Python | None = None
    """What runs programs in the guest for the user who has logged in."""
    looks: Looks | None = None
    """What looks around in the guest for that user, where there is no python3."""


def look_by_ssh(
    shell: GuestShell,
    info: GuestInfo,
    hypervisor: Hypervisor,
    settings: ClockSection,
    deadline: Deadline,
    *,
    sudo: bool,
) -> Inside:
    """Look around by a login, and make sure whose it is. Raises WrongGuest, ProbeError, ShellError.

    ``sudo``: the user may become root.
    """
    entered = None if sudo else enter(shell, settings.interpreters, deadline)
    if entered is not None:
        facts, sampler = entered
    else:
        facts = gather(shell, deadline)
        sudo = sudo and facts.uid != 0
        sampler = Sampler.open(
            shell, facts, deadline, interpreters=settings.interpreters, sudo=sudo
        )
    python = Programs(sampler) if entered is not None and sampler.runs_programs else None
    try:
        told = facts.machine.uuid or (sampler.machine_uuid(deadline) if sudo else None)
        identity = identify(Found(info, shell.way, facts, told), hypervisor, deadline)
    except BaseException:
        sampler.close()
        raise
    agent = GuestAgentClock(hypervisor, info.uuid, deadline.clock)
    reach = Reach(sampler, shell, agent, facts.time_daemon, sudo)
    looks = sampler if entered is not None and sampler.looks_around else None
    return Inside(facts, sampler, reach, identity, python=python, looks=looks)


def look_by_agent(
    shell: AgentShell, info: GuestInfo, settings: ClockSection, deadline: Deadline
) -> Inside:
    """Look around by the guest agent: as a login does where it may run programs, else by its own.

    Raises PlanError where the agent tells nothing of the clock, ProbeError, ShellError.
    """
    may = shell.abilities
    clock = ChannelClock(shell.channel, deadline.clock)
    facts = gather(shell, deadline) if may.runs else facts_told(shell, deadline)
    if not may.streams or shell.speaks is Language.POWERSHELL:
        facts = replace(facts, interpreters=())
    address = own_address(shell, info.macs, deadline)
    facts = replace(facts, machine=replace(facts.machine, ssh_address=address))
    if (refused := refusal_of(info.name, may, talks=bool(facts.interpreters))) is not None:
        raise refused
    sets = SET_TIME in may.allowed
    told = ToldClock(shell.guest, clock, sets=sets, os=facts.os, clock=deadline.clock)
    sampler = Sampler.open(
        shell,
        facts,
        deadline,
        interpreters=settings.interpreters,
        told=told if GET_TIME in may.allowed else None,
    )
    sets = {GET_TIME, SET_TIME} <= may.allowed
    reach = Reach(sampler, shell, clock if sets else None, facts.time_daemon)
    limits = limits_of(may)
    if facts.os is GuestOs.WINDOWS and limits is None:
        limits = "in Windows the guest agent runs programs, and they cannot be talked to"
    return Inside(facts, sampler, reach, bound_by_channel(facts), limits)


def with_owed_ticks(inside: Inside, info: GuestInfo, hypervisor: Hypervisor, clock: Clock) -> Reach:
    """Return the way to a guest's clock that QEMU may owe ticks to: by libvirt, which forgets them.

    See docs/adr/0030-rtc-reinjection.md.
    """
    reach = inside.reach
    if inside.facts.os is not GuestOs.WINDOWS or not reinjects_ticks(info.timekeeping):
        return reach
    by_libvirt = GuestAgentClock(hypervisor, info.uuid, clock)
    agent = by_libvirt if reach.agent is not None else None
    return replace(reach, agent=agent, owed=OwedTicks(by_libvirt))
