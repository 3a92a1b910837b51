"""A lease per availability set: of all its guests, on every host, one run pauses some at a time.

A row is a promise until ``expires_s``: the run that holds the set has its guests back by then, or
has a guardian that sees to it. A lease that has expired counts for nothing, so that of a dead host
ends by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from harness.core.durations import spoken
from harness.core.errors import SetLeased
from harness.fleet.database import FleetDatabase
from harness.fleet.schema import leases


@dataclass(frozen=True)
class Lease:
    """An availability set that is held; stamps are of the database's clock."""

    availability_set: str
    update_domain: str
    run_id: str
    host: str
    taken_s: float
    expires_s: float

    def lapsed(self, now_s: float) -> str:
        """Return in words that it ended and was not released: its run died, or was cut off."""
        return (
            f"the lease of availability set {self.availability_set} ended by itself "
            f"{spoken(now_s - self.expires_s)} ago: update domain {self.update_domain} on "
            f"{self.host}, run {self.run_id}, did not release it"
        )

    def describe(self, now_s: float) -> str:
        """``update domain 0 on host7, run X, for another 95 s at most (until 12:00:05 UTC)``."""
        until = datetime.fromtimestamp(self.expires_s, UTC)
        return (
            f"update domain {self.update_domain} on {self.host}, run {self.run_id}, for another "
            f"{spoken(self.expires_s - now_s)} at most (until {until:%H:%M:%S} UTC)"
        )


def take(
    database: FleetDatabase,
    sets: Iterable[str],
    *,
    update_domain: str,
    run_id: str,
    host: str,
    seconds: float,
) -> None:
    """Hold all of ``sets`` for ``seconds`` from now, or none of them; again, to hold them longer.

    Raises SetLeased, with who holds one, and InfrastructureError if the database cannot be used.
    """
    with database.changing() as connection:
        now_s = database.now_s(connection)
        for name in sorted(set(sets)):  # in one order everywhere: two runs never wait in a circle
            row = database.insert(leases).values(
                availability_set=name,
                update_domain=update_domain,
                run_id=run_id,
                host=host,
                taken_s=now_s,
                expires_s=now_s + seconds,
            )
            ours = leases.c.run_id == run_id
            new = {column: row.excluded[column] for column in _OF_A_HOLDER}
            since = sa.case((ours, leases.c.taken_s), else_=row.excluded.taken_s)
            done = connection.execute(
                row.on_conflict_do_update(
                    index_elements=[leases.c.availability_set],
                    set_={**new, "taken_s": since},
                    where=sa.or_(ours, leases.c.expires_s <= now_s),
                ).returning(leases.c.run_id)
            )
            if done.first() is None:
                raise _refused(connection, name, now_s)


_OF_A_HOLDER = ("update_domain", "run_id", "host", "expires_s")


def _refused(connection: sa.Connection, name: str, now_s: float) -> SetLeased:
    query = sa.select(leases).where(leases.c.availability_set == name)
    found = connection.execute(query).mappings().one_or_none()
    who = Lease(**found).describe(now_s) if found is not None else "another run"
    return SetLeased(
        f"availability set {name} is held by {who}; its update domains go one at a time",
        hint="wait for it; the lease of a host that died ends by itself",
    )


def release(database: FleetDatabase, sets: Iterable[str], run_id: str) -> None:
    """Let go of what this run holds of ``sets``. Raises InfrastructureError."""
    with database.changing() as connection:
        connection.execute(
            sa.delete(leases).where(
                leases.c.run_id == run_id, leases.c.availability_set.in_(sorted(set(sets)))
            )
        )


def release_all(database: FleetDatabase, run_id: str) -> None:
    """Let go of all that a run holds, which is over for good. Raises InfrastructureError."""
    with database.changing() as connection:
        connection.execute(sa.delete(leases).where(leases.c.run_id == run_id))


def held(database: FleetDatabase) -> Sequence[Lease]:
    """Return the leases that count now, by set. Raises InfrastructureError."""
    with database.changing() as connection:
        query = sa.select(leases).where(leases.c.expires_s > database.now_s(connection))
        rows = connection.execute(query.order_by(leases.c.availability_set)).mappings().all()
    return [Lease(**row) for row in rows]


def leases_of(connection: sa.Connection) -> Sequence[Lease]:
    """Return all leases, by set, also those that ended by themselves: of a run that died, mostly.

    One of those is there until the set is leased again.
    """
    query = sa.select(leases).order_by(leases.c.availability_set)
    return [Lease(**row) for row in connection.execute(query).mappings()]
