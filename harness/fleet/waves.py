"""Hosts and the availability sets on them → waves: which hosts are done at once, in which order.

Pure. Two hosts of one set are never in one wave, because each may pause guests of it; so a wave is
an independent set of a graph whose edges are shared sets, and waves are a colouring. First fit, the
most entangled hosts first, by one number a set whose bits are the waves that have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.core.errors import PlanError


@dataclass(frozen=True)
class FleetHost:
    """One host, as far as the order of hosts depends on it."""

    name: str
    sets: frozenset[str] = frozenset()
    """Availability sets of which guests would be paused on it."""
    wave: int | None = None
    """The wave that a person put it into, from 1, counted after the canaries; None: any."""
    canary: bool = False
    """It is done before all others; not if it has a ``wave``, which goes before this."""


@dataclass(frozen=True)
class Wave:
    """Hosts that may be done at once."""

    hosts: tuple[str, ...]
    """By name."""
    canary: bool = False


def plan_waves(hosts: Iterable[FleetHost], *, at_most: int | None = None) -> tuple[Wave, ...]:
    """Return the waves in their order; the same for the same hosts, in whatever order they come.

    Args:
        hosts: Every host of the fleet.
        at_most: How many hosts a wave may have; None: any number.

    Raises:
        PlanError: Two hosts have one name, or the waves that persons gave hosts would do two hosts
            of one set, or more than ``at_most``, at once.
    """
    ordered = sorted(hosts, key=lambda host: host.name)
    _refuse_twins(ordered)
    members = Counter(name for host in ordered for name in host.sets)
    canaries = [host for host in ordered if host.canary and host.wave is None]
    others = [host for host in ordered if not host.canary and host.wave is None]
    first, then = _Waves(at_most), _Waves(at_most)
    for host in ordered:
        if host.wave is not None:
            then.put(host, host.wave - 1)
    for waves, free in ((first, canaries), (then, others)):
        for host in sorted(free, key=lambda one: (-_entangled(one, members), one.name)):
            waves.put(host, waves.first_fit(host))
    return (*first.listed(canary=True), *then.listed(canary=False))


class _Waves:
    """Waves as they fill; numbers from 0."""

    def __init__(self, at_most: int | None) -> None:
        self._at_most = at_most
        self._hosts: dict[int, list[FleetHost]] = {}
        self._waves_of: dict[str, int] = {}
        """Set → a bit for each wave that has it."""
        self._full = 0

    def first_fit(self, host: FleetHost) -> int:
        """Return the first wave that has room and none of the host's sets."""
        taken = self._full
        for name in host.sets:
            taken |= self._waves_of.get(name, 0)
        return (~taken & (taken + 1)).bit_length() - 1  # the lowest bit that is not set

    def put(self, host: FleetHost, number: int) -> None:
        """Raises PlanError where that wave may not have the host."""
        there = self._hosts.setdefault(number, [])
        if number < 0:
            raise PlanError(f"host {host.name}: wave {number + 1}: they begin with 1")
        if self._full >> number & 1:
            raise PlanError(
                f"wave {number + 1} has more hosts than {self._at_most}: "
                f"{', '.join(one.name for one in there)}, {host.name}",
                hint="give some of them another wave, or none",
            )
        for name in sorted(host.sets):
            if self._waves_of.get(name, 0) >> number & 1:
                other = next(one.name for one in there if name in one.sets)
                raise PlanError(
                    f"hosts {other} and {host.name} are both in wave {number + 1} and both have "
                    f"guests of availability set {name}",
                    hint="give one of them another wave, or none",
                )
            self._waves_of[name] = self._waves_of.get(name, 0) | 1 << number
        there.append(host)
        if self._at_most is not None and len(there) >= self._at_most:
            self._full |= 1 << number

    def listed(self, *, canary: bool) -> Iterable[Wave]:
        """Yield those that have hosts."""
        for number in sorted(self._hosts):
            names = sorted(host.name for host in self._hosts[number])
            yield Wave(tuple(names), canary)


def _entangled(host: FleetHost, members: Mapping[str, int]) -> int:
    """Return how many hosts it may keep waiting."""
    return sum(members[name] for name in host.sets)


def _refuse_twins(hosts: Sequence[FleetHost]) -> None:
    for one, other in zip(hosts, hosts[1:], strict=False):
        if one.name == other.name:
            raise PlanError(f"host {one.name} is there twice")
