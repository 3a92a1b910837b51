"""Configuration and inventory → update domains in order; refuses what cannot be done safely.

Pure: it is given what the hypervisor said and touches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from harness.core.errors import PlanError
from harness.core.settings import Config, GuestSection, Scope, guest_section
from harness.host.lifecycle import GuestState
from harness.host.protocol import GuestInfo
from harness.maintenance.capacity import Room, part_sizes, refuse_too_many
from harness.maintenance.fitness import (
    opted_out,
    refuse_nothing_or_twice,
    refuse_unable,
    refuse_unfit,
)
from harness.maintenance.one_address import warn_of_one_address
from harness.maintenance.spread import far_apart
from harness.updates.protocol import GuestUpdate, HostUpdate

#: The one update domain of a host whose guests must all pause together.
WHOLE_HOST = "host"


@dataclass(frozen=True)
class PlannedGuest:
    """A guest with everything that is known about it beforehand."""

    info: GuestInfo
    section: GuestSection
    update_domain: str
    availability_set: str | None
    own_domain: str | None = None
    """The update domain that configuration or metadata give it, if any."""

    @property
    def name(self) -> str:
        """The guest's libvirt name; only ever data."""
        return self.info.name


@dataclass(frozen=True)
class UpdateDomain:
    """Guests that are updated, and so paused, together."""

    name: str
    guests: tuple[PlannedGuest, ...]


@dataclass(frozen=True)
class Plan:
    """Update domains in the order in which they are done, one at a time."""

    domains: tuple[UpdateDomain, ...]
    warnings: tuple[str, ...] = ()

    @property
    def guests(self) -> tuple[PlannedGuest, ...]:
        """Every guest of the plan, in order."""
        return tuple(guest for domain in self.domains for guest in domain.guests)


@dataclass(frozen=True)
class PlanRules:
    """What a configuration says of how guests may be paused together."""

    budget_s: float
    resume_reserve_s: float
    accelerator: Literal["auto", "kvm", "tcg"]
    """The one that guests must run on; auto: any."""
    spread: int | None
    """Into how many update domains guests are put, whatever their own say."""
    at_most: int | None
    """How many guests may be paused together."""
    guests: tuple[GuestSection, ...]

    @classmethod
    def of(cls, config: Config) -> PlanRules:
        """Return the rules that ``config`` holds."""
        return cls(
            config.budget_s,
            config.resume_reserve_s,
            config.accelerator,
            config.spread,
            config.at_most,
            config.guest,
        )


def make_plan(
    rules: PlanRules,
    chosen: Sequence[GuestInfo],
    update: HostUpdate,
    *,
    others: Sequence[GuestInfo] = (),
    uri: str = "",
    held_by: str = "",
) -> Plan:
    """Sort the ``chosen`` guests into update domains.

    ``others`` are the host's remaining guests, for warnings; ``uri`` is for hints, and so is
    ``held_by``: who holds the host, "" if it is free. Raises PlanError if there is nothing to do, a
    guest is named twice, the update cannot be applied under paused guests, or it needs the whole
    host while the guests are configured in several domains; WrongState if a guest is not running;
    MissingCapability if it runs on another accelerator than the one insisted on.
    """
    refuse_unfit(update, rules.budget_s, rules.resume_reserve_s)
    sections = {one.uuid: guest_section(rules.guests, one.name, one.uuid) for one in chosen}
    taking_part, left_out = opted_out(sections, chosen, update)
    refuse_nothing_or_twice(taking_part, others)
    refuse_unable(taking_part, rules.accelerator, uri, held_by)
    planned = [_place(sections[guest.uuid], guest, update.scope) for guest in taking_part]
    if rules.spread is not None:
        planned = _spread(planned, rules.spread)
    domains = _group(planned)
    _refuse_split_host(update, domains)
    _refuse_two_at_once(domains)
    domains = _at_most(update, domains, rules.at_most)
    planned = [guest for domain in domains for guest in domain.guests]
    _refuse_too_many(update, domains, rules)
    baskets, others_run = _same_basket(planned), _bystanders(update, others)
    addresses = warn_of_one_address((guest.name, guest.section) for guest in planned)
    warnings = (*left_out, *addresses, *baskets, *others_run, *update.warnings)
    return Plan(domains, warnings)


def _place(section: GuestSection, guest: GuestInfo, scope: Scope) -> PlannedGuest:
    """Configuration first, then the guest's own ``<metadata>``, then the update's scope."""
    unlabelled = WHOLE_HOST if scope is Scope.HOST else guest.name
    own_domain = section.update_domain or guest.update_domain
    return PlannedGuest(
        info=guest,
        section=section,
        update_domain=own_domain or unlabelled,
        availability_set=section.availability_set or guest.availability_set,
        own_domain=own_domain,
    )


def _spread(planned: Sequence[PlannedGuest], count: int) -> list[PlannedGuest]:
    """Assign ``count`` domains (or as many as there are guests): members of a set far apart.

    The same guests get the same domains, in whatever order they come.
    """
    count = min(count, len(planned))
    sets: dict[tuple[bool, str], list[PlannedGuest]] = {}
    for guest in sorted(planned, key=lambda guest: (_natural(guest.name), guest.info.uuid)):
        alone = guest.availability_set is None
        key = (alone, guest.info.uuid if alone else guest.availability_set or "")
        sets.setdefault(key, []).append(guest)
    # Large sets first, as the small ones fit into what is left.
    members = sorted(sets.items(), key=lambda one: (-len(one[1]), one[0]))
    groups = [group for _, group in members]
    places = far_apart([len(group) for group in groups], count)
    return [
        replace(guest, update_domain=str(place))
        for group, its_places in zip(groups, places, strict=True)
        for guest, place in zip(group, its_places, strict=True)
    ]


def _group(planned: Sequence[PlannedGuest]) -> tuple[UpdateDomain, ...]:
    names = sorted({guest.update_domain for guest in planned}, key=_natural)
    return tuple(
        UpdateDomain(name, tuple(guest for guest in planned if guest.update_domain == name))
        for name in names
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """Domain 2 before domain 10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]


def _refuse_split_host(update: HostUpdate, domains: Sequence[UpdateDomain]) -> None:
    if update.scope is Scope.HOST and len(domains) > 1:
        names = ", ".join(domain.name for domain in domains)
        raise PlanError(
            f"the update ({update.kind}) has scope host, so all guests of this host must pause "
            f"together, but they are in {len(domains)} update domains: {names}",
            hint='choose the guests of one domain, or declare update.scope = "guest" if the '
            "update can be applied guest by guest",
        )


def _at_most(
    update: HostUpdate, domains: Sequence[UpdateDomain], count: int | None
) -> tuple[UpdateDomain, ...]:
    """Have larger update domains done in parts, each an update domain of its own."""
    if count is None:
        return tuple(domains)
    split: list[UpdateDomain] = []
    for domain in domains:
        sizes = part_sizes(len(domain.guests), count, update)
        guests = iter(domain.guests)
        for number, size in enumerate(sizes, 1):
            part = f" ({number} of {len(sizes)})" if len(sizes) > 1 else ""
            name = domain.name + part
            mine = tuple(replace(one, update_domain=name) for one in islice(guests, size))
            split.append(UpdateDomain(name, mine))
    return tuple(split)


def _refuse_too_many(update: HostUpdate, domains: Sequence[UpdateDomain], rules: PlanRules) -> None:
    """What an update takes for all guests of a domain at once must fit into the budget."""
    source = update.expected_from
    if isinstance(update, GuestUpdate):
        room = Room(rules.budget_s, rules.resume_reserve_s)
        for domain in domains:
            refuse_too_many(domain.name, len(domain.guests), update, room, source)


def _refuse_two_at_once(domains: Sequence[UpdateDomain]) -> None:
    """Members of a set that are kept apart are not paused together, whatever spreads them."""
    for domain in domains:
        labels: dict[str, dict[str, str]] = {}
        for guest in domain.guests:
            if guest.availability_set and guest.own_domain:
                labels.setdefault(guest.availability_set, {})[guest.own_domain] = guest.name
        for name, of_set in labels.items():
            if len(of_set) > 1:
                raise PlanError(
                    f"availability set {name}: {', '.join(of_set.values())} are in update domains "
                    f"{', '.join(of_set)} and would be paused at once",
                    hint="spread over more update domains, or change the guests' own",
                )


def sets_of(guests: Iterable[PlannedGuest]) -> tuple[str, ...]:
    """Return the availability sets that ``guests`` belong to, by name."""
    return tuple(sorted({one.availability_set for one in guests if one.availability_set}))


def _same_basket(planned: Sequence[PlannedGuest]) -> list[str]:
    warnings = []
    for name in sets_of(planned):
        members = [guest for guest in planned if guest.availability_set == name]
        domains = {guest.update_domain for guest in members}
        if len(members) > 1 and len(domains) == 1:
            warnings.append(
                f"availability set {name}: all {len(members)} members are in update domain "
                f"{domains.pop()}; they will be paused at the same time"
            )
    return warnings


def _bystanders(update: HostUpdate, others: Sequence[GuestInfo]) -> list[str]:
    running = [guest.name for guest in others if guest.state.state is GuestState.RUNNING]
    if update.scope is not Scope.HOST or not running:
        return []
    return [
        f"the update has scope host, but these running guests are not part of it and will not "
        f"be paused: {', '.join(running)}"
    ]
