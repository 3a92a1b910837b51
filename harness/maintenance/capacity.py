"""How many guests may pause together: by ``at_most``, what an update takes, and limits; pure."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.errors import PlanError
from harness.core.headroom import Headroom
from harness.core.settings import Scope
from harness.updates.protocol import GuestUpdate, HostUpdate, Needs

#: Descriptors that the run takes, beside its guests and for each guest of an update domain.
#: These and the next are what `make bench-scale` measures, rounded up.
_DESCRIPTORS = (48, 8)
#: Threads that the run and its guardian take together.
_THREADS = (32, 16)


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
