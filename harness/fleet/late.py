"""Waves of hosts that come after a rollout was planned: after all others, which stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa

from harness.fleet.database import FleetDatabase
from harness.fleet.frozen import FrozenWaves, read_frozen, rows_of
from harness.fleet.plans import HostPlan
from harness.fleet.schema import places, rollouts
from harness.fleet.waves import Wave

#: Of a host that the plan left out, and that has guests to maintain by now.
_REPLACED = ("wave", "canary", "sets", "guests", "not_needed")


def append(
    database: FleetDatabase,
    rollout: str,
    plans: Mapping[str, HostPlan],
    sort: Callable[[Mapping[str, HostPlan]], Sequence[Wave]],
) -> FrozenWaves | None:
    """Give hosts that have no wave of a rollout waves after all others.

    Of two controllers at once the second finds what the first appended; its own hosts come after.

    Args:
        database: The fleet's.
        rollout: Its ID.
        plans: Of any hosts; those that have a wave are left alone.
        sort: Returns the waves of hosts by their plans; called in the transaction, once at most.

    Returns:
        All waves of the rollout; None if it has none.

    Raises:
        InfrastructureError: The database cannot be used.
        PlanError: By ``sort``; then nothing is changed.
    """
    with database.changing() as connection:
        lock = sa.select(rollouts.c.rollout).where(rollouts.c.rollout == rollout)
        connection.execute(lock.with_for_update())  # SQLite has one writer at a time anyway
        frozen = read_frozen(connection, rollout)
        if frozen is None:
            return None
        placed = {host for wave in frozen.waves for host in wave.hosts}
        late = {
            host: plan
            for host, plan in plans.items()
            if host not in placed and plan != frozen.plans.get(host)
        }
        if not late:
            return frozen
        new = database.insert(places)
        connection.execute(
            new.on_conflict_do_update(
                index_elements=[places.c.rollout, places.c.host],
                set_={name: new.excluded[name] for name in _REPLACED},
            ),
            rows_of(rollout, sort(late), late, after=len(frozen.waves)),
        )
        return read_frozen(connection, rollout)
