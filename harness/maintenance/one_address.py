"""Guests that are configured with one address: seen at plan time, before a login. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from harness.core.errors import PlanError
from harness.core.settings import GuestSection

_Place = tuple[str, int | None, str | None]


def warn_of_one_address(guests: Iterable[tuple[str, GuestSection]]) -> list[str]:
    """Return a warning for guests, given by name and section, that have one address.

    A port of their own in ``~/.ssh/config`` may still tell them apart; their logins show that.
    Raises PlanError where the sections name the port as well.
    """
    places: dict[_Place, list[str]] = defaultdict(list)
    for name, section in guests:
        if section.address is not None:
            places[section.address, section.ssh.port, section.ssh.proxy_jump].append(name)
    warnings = []
    for (address, port, _), names in places.items():
        if len(names) == 1:
            continue
        both = " and ".join(sorted(names))
        if port is not None:
            raise PlanError(
                f"{both} are configured with one address: {address} port {port}",
                hint="give each [[guest]] its own, or leave all but one out",
            )
        warnings.append(
            f"{both} are configured with one address: {address}; a run refuses them unless "
            "~/.ssh/config gives each a port of its own"
        )
    return warnings
