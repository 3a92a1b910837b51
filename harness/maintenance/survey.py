"""What is there on the host, turned into a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.core.headroom import headroom
from harness.core.programs import check_program
from harness.core.settings import Config
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.host.daemon_limits import daemon_limits
from harness.host.lock import holding
from harness.host.protocol import Hypervisor
from harness.maintenance.agents_foreseen import foresee_agents
from harness.maintenance.capacity import refuse_full_daemon, refuse_overload, warn_of_turns
from harness.maintenance.named import pick, wanted
from harness.maintenance.plan import Plan, PlanRules, make_plan
from harness.maintenance.spanning import refuse_unshared
from harness.updates.protocol import GuestUpdate, HostUpdate


def survey(
    config: Config,
    names: Sequence[str],
    hypervisor: Hypervisor,
    update: HostUpdate,
    clock: Clock = SYSTEM_CLOCK,
) -> Plan:
    """Ask the hypervisor about the guests and plan their maintenance; changes nothing.

    ``names``: the guests to maintain; empty means those of the configuration. Raises UsageError
    or HypervisorError for everything that can be known to be wrong by now.
    """
    update.check()
    for own in config.checks.own:
        check_program(own.command, f"checks.own[{own.name}].command")
    deadline = Deadline.after(config.prepare_timeout_s, clock)
    known = hypervisor.guests(deadline)
    asked_for = wanted(names, [guest.name for guest in config.guest])
    chosen = pick(known, asked_for, hypervisor.uri)
    uuids = {guest.uuid for guest in chosen}
    others = [guest for guest in known if guest.uuid not in uuids]
    if isinstance(update, GuestUpdate):
        update.examine(chosen, hypervisor, deadline)
    plan = make_plan(
        PlanRules.of(config),
        chosen,
        update,
        others=others,
        uri=hypervisor.uri,
        held_by=holding(hypervisor.uri, clock),
    )
    turns = _refuse_beyond_limits(plan, update, hypervisor.uri)
    refuse_unshared(
        config.availability_set,
        plan.guests,
        database=config.fleet.database,
        notice_s=config.events.notice_s,
        store=config.events.store,
    )
    agents = foresee_agents(plan.guests, config.access, hypervisor, deadline)
    return replace(plan, warnings=(*plan.warnings, *turns, *agents))


def _refuse_beyond_limits(plan: Plan, update: HostUpdate, uri: str) -> tuple[str, ...]:
    """Raise PlanError for more guests than limits allow; return warnings about slow ones."""
    left, sizes = headroom(), {domain.name: len(domain.guests) for domain in plan.domains}
    for name, guests in sizes.items():
        refuse_overload(name, guests, update.scope, left)
    limits = daemon_limits(uri)
    if limits is None:
        return ()
    refuse_full_daemon(len(plan.guests), max(sizes.values()), limits)
    return warn_of_turns(sizes, limits)
