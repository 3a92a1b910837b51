"""Which guest sees whose events: those of its availability set, or only its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.core.settings import AvailabilitySetSection, GuestSection, guest_section
from harness.events.schema import Member, scope_of_guest, scope_of_set
from harness.events.shared import SharedStore
from harness.host.protocol import GuestInfo


@dataclass(frozen=True)
class Scopes:
    """The scope of each guest; in a store that is shared a set of one host bears its name."""

    host: str = ""
    """What this host is called there; "": the store is not shared."""
    spanning: frozenset[str] = frozenset()
    """Sets that have guests on other hosts too."""

    @classmethod
    def of(cls, sets: Sequence[AvailabilitySetSection], shared: SharedStore | None) -> Scopes:
        """Return those of a configuration."""
        spanning = frozenset(one.name for one in sets if one.spans_hosts)
        return cls(shared.host if shared is not None else "", spanning)

    def name(self, availability_set: str | None, uuid: str) -> str:
        """Return the scope of a guest."""
        if not availability_set:
            return scope_of_guest(uuid)
        return scope_of_set(
            availability_set, "" if availability_set in self.spanning else self.host
        )


_ALONE = Scopes()


def memberships(
    sections: Sequence[GuestSection], guests: Iterable[GuestInfo], scopes: Scopes = _ALONE
) -> list[Member]:
    """Return every guest's scope and update domain: its section first, then its metadata."""
    return [_membership(guest_section(sections, g.name, g.uuid), g, scopes) for g in guests]


def _membership(section: GuestSection, guest: GuestInfo, scopes: Scopes) -> Member:
    domain = section.update_domain or guest.update_domain or ""
    name = section.availability_set or guest.availability_set
    return Member(guest.uuid, guest.name, scopes.name(name, guest.uuid), domain)


def spoken_scope(scope: str) -> str:
    """A scope as people say it."""
    kind, _, name = scope.partition(":")
    return f"availability set {name}" if kind != "guest" else f"guest {name}"
