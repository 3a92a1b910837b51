"""How many guests may pause together: by ``at_most``, what an update takes, and limits; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.errors import PlanError
from harness.core.headroom import DaemonLimits, Headroom
from harness.core.settings import Scope
from harness.updates.protocol import GuestUpdate, HostUpdate, Needs

#: Descriptors that the run takes, beside its guests and for each guest of an update domain.
#: These and the next are what `make bench-scale` measures, rounded up.
_DESCRIPTORS = (48, 8)
#: Threads that the run and its guardian take together.
_THREADS = (32, 16)

#: Connections to libvirt beside those for guests: the guardian's, which listens, and one for the
#: person who looks meanwhile.
_CONNECTIONS = 2


@dataclass(frozen=True)
class Room:
    """What a pause may take; seconds."""

    budget_s: float
    resume_reserve_s: float
    """What of it is kept for resuming, whatever the update."""

    def reserve_s(self, needs: Needs) -> float:
        """Return what is kept to bring every guest back."""
        return max(self.resume_reserve_s, needs.reserve_s)

    def holds(self, needs: Needs) -> bool:
        """Return True if an update of those needs fits in."""
        return needs.expected_s + self.reserve_s(needs) <= self.budget_s


def part_sizes(guests: int, at_most: int, update: HostUpdate) -> list[int]:
    """Return the sizes of the parts in which an update domain is done: as few and equal as they go.

    Raises PlanError where there would be several, and all guests must pause together.
    """
    count = -(-guests // at_most)
    if count > 1 and update.scope is Scope.HOST:
        raise PlanError(
            f"the update ({update.kind}) has scope host, so all {guests} guests must pause "
            f"together, but at most {at_most} may (at_most)",
            hint='leave at_most out, or declare update.scope = "guest" if the update can be '
            "applied guest by guest",
        )
    size, more = divmod(guests, count)
    return [size + (number < more) for number in range(count)]


def refuse_too_many(domain: str, guests: int, update: GuestUpdate, room: Room, source: str) -> None:
    """Raise PlanError if an update of so many guests at once does not fit into the budget.

    ``source`` is where what is expected comes from, for people.
    """
    needs = update.needs(guests)
    if room.holds(needs):
        return
    fitting = (n for n in range(guests - 1, 0, -1) if room.holds(update.needs(n)))
    most = next(fitting, None)
    fewer = f"pause fewer at once: --at-most {most}; or " if most is not None else ""
    raise PlanError(
        f"update domain {domain}: an update of {guests} guests at once is expected to take "
        f"{needs.expected_s:.1f} s ({source}), and {room.reserve_s(needs):.1f} s are kept to bring "
        f"them all back; the budget is {room.budget_s:.1f} s",
        hint=f"{fewer}raise --budget if your guests can bear it",
    )


def most_at_once(headroom: Headroom) -> tuple[int | None, str]:
    """Return how many guests this process can take care of at once, and what sets that.

    None where nothing is known to limit it.
    """
    limits = [
        (max(0, (limit.left - beside) // each), f"{limit.left} {what} are left of {limit.by}")
        for limit, (beside, each), what in (
            (headroom.descriptors, _DESCRIPTORS, "descriptors"),
            (headroom.threads, _THREADS, "threads"),
        )
        if limit is not None
    ]
    return min(limits, default=(None, ""), key=lambda one: one[0])


def refuse_overload(domain: str, guests: int, scope: Scope, headroom: Headroom) -> None:
    """Raise PlanError if descriptors or threads would run out with so many guests in hand.

    A run that finds that out in the window leaves guests to be resumed by what is left.
    """
    most, why = most_at_once(headroom)
    if most is None or guests <= most:
        return
    fewer = f"pause fewer at once: --at-most {most}; or " if most and scope is Scope.GUEST else ""
    raise PlanError(
        f"update domain {domain}: {guests} guests at once are more than the {most} that this "
        f"process can take care of: {why}",
        hint=f"{fewer}raise that limit",
    )


def connections_of(guests: int, largest: int) -> int:
    """Return how many connections to libvirt a run opens: one for each guest that it looks at.

    And its guardian opens one for each guest of the update domain, of which the ``largest`` counts.
    """
    return guests + largest + _CONNECTIONS


def most_connected(limits: DaemonLimits) -> int | None:
    """Return how many guests the connections that are left suffice for, all in one update domain.

    None where that is not known to be limited.
    """
    if limits.connections is None:
        return None
    return max(0, (limits.connections.left - _CONNECTIONS) // 2)


def refuse_full_daemon(guests: int, largest: int, limits: DaemonLimits) -> None:
    """Raise PlanError if libvirt's daemon would leave connections of the run waiting.

    It does not refuse them, so nothing would fail before a deadline has passed.
    """
    left, taken = limits.connections, connections_of(guests, largest)
    if left is None or taken <= left.left:
        return
    most = most_connected(limits)
    fewer = f"; or maintain no more than {most} guests in a run" if most else ""
    raise PlanError(
        f"{guests} guests take {taken} connections to {limits.daemon}, and it takes {left.left} "
        f"more ({left.by})",
        hint=f"{how_to_raise(limits.daemon)}{fewer}",
    )


def how_to_raise(daemon: str) -> str:
    """Return how a person has a daemon take more connections."""
    return (
        f"raise max_clients in /etc/libvirt/{daemon}.conf; until its next start: "
        f"virt-admin -c {daemon}:///system server-clients-set {daemon} --max-clients 5000"
    )


def warn_of_turns(domains: Mapping[str, int], limits: DaemonLimits) -> tuple[str, ...]:
    """Return a line for each update domain whose guests libvirt's daemon pauses in turns.

    ``domains``: how many guests each of them has.
    """
    workers = limits.workers
    return tuple(
        f"update domain {name}: {limits.daemon} works on {workers} calls at once (max_workers), so "
        f"its {guests} guests are paused and resumed in turns"
        for name, guests in domains.items()
        if workers and guests > workers
    )
