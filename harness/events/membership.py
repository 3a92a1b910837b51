"""Which guest sees whose events: those of its availability set, or only its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.core.settings import GuestSection, guest_section
from harness.events.schema import Member, scope_of_guest, scope_of_set
from harness.host.protocol import GuestInfo


def memberships(sections: Sequence[GuestSection], guests: Iterable[GuestInfo]) -> list[Member]:
    """Return every guest's scope and update domain: its section first, then its metadata."""
    return [_membership(guest_section(sections, one.name, one.uuid), one) for one in guests]


def _membership(section: GuestSection, guest: GuestInfo) -> Member:
    domain = section.update_domain or guest.update_domain or ""
    name = section.availability_set or guest.availability_set
    return Member(guest.uuid, guest.name, scope_name(name, guest.uuid), domain)


def scope_name(availability_set: str | None, uuid: str) -> str:
    """The scope of a guest."""
    return scope_of_set(availability_set) if availability_set else scope_of_guest(uuid)


def spoken_scope(scope: str) -> str:
    """A scope as people say it."""
    kind, _, name = scope.partition(":")
    return f"availability set {name}" if kind == "set" else f"guest {name}"
