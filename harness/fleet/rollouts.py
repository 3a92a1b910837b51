"""What the fleet's database knows of rollouts: read at one moment, with the leases of then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import sqlalchemy as sa

from harness.core.errors import UsageError
from harness.core.nearest import nearest
from harness.fleet.database import FleetDatabase
from harness.fleet.frozen import FrozenWaves, read_frozen
from harness.fleet.leases import Lease, leases_of
from harness.fleet.schema import parts, rollouts
from harness.fleet.view import Part, RolloutView, view

_TOLD = [parts.c[field.name] for field in fields(Part)]


@dataclass(frozen=True)
class Rollout:
    """A rollout at one moment; stamps are of the database's clock."""

    rollout: str
    now_s: float
    frozen: FrozenWaves | None
    """None: its hosts were begun without waves."""
    view: RolloutView
    leases: tuple[Lease, ...]
    """Of the sets of its hosts, or of its runs; also those that ended without being released."""


def newest(database: FleetDatabase) -> str:
    """Return the ID of the rollout of which something was heard last. Raises UsageError."""
    found = known_rollouts(database)
    if not found:
        raise UsageError(
            f"no rollout is known in {database.shown}",
            hint="harness fleet plan --rollout ID, harness run --rollout ID",
        )
    return found[0]


def known_rollouts(database: FleetDatabase) -> Sequence[str]:
    """Return the ID of every rollout, the one heard of last first. Raises InfrastructureError."""
    with database.looking() as connection:
        return _known(connection)


def read_rollout(database: FleetDatabase, rollout: str) -> Rollout:
    """Return what is known of one. Raises UsageError for an ID that is not."""
    with database.changing() as connection:
        now_s = database.now_s(connection)
        frozen = read_frozen(connection, rollout)
        told = read_parts(connection, rollout)
        if frozen is None and not told:
            known = _known(connection)
            raise UsageError(f"no rollout {rollout!r}", hint=nearest(rollout, known, "rollouts"))
        found = leases_of(connection)
    waves, soak_s = (frozen.waves, frozen.soak_s) if frozen is not None else ((), 0.0)
    run_ids = {part.run_id for part in told}
    sets = {one for plan in frozen.plans.values() for one in plan.sets} if frozen else set()
    ours = tuple(one for one in found if one.run_id in run_ids or one.availability_set in sets)
    seen = view(waves, told, soak_s=soak_s, now_s=now_s)
    return Rollout(rollout, now_s, frozen, seen, ours)


def read_parts(connection: sa.Connection, rollout: str) -> Sequence[Part]:
    """Return what each host of a rollout told, by host."""
    query = sa.select(*_TOLD).where(parts.c.rollout == rollout).order_by(parts.c.host)
    return [Part(**row) for row in connection.execute(query).mappings()]


def answers(database: FleetDatabase, rollout: str) -> dict[str, str]:
    """Return what each host of a rollout answered in the end, as JSON. Raises."""
    query = sa.select(parts.c.host, parts.c.answer).where(
        parts.c.rollout == rollout, parts.c.answer.is_not(None)
    )
    with database.changing() as connection:
        return {row.host: row.answer for row in connection.execute(query.order_by(parts.c.host))}


def _known(connection: sa.Connection) -> list[str]:
    """Every rollout, the one of which something was heard last first."""
    heard = sa.union_all(
        sa.select(rollouts.c.rollout, rollouts.c.planned_s.label("at_s")),
        sa.select(parts.c.rollout, parts.c.told_s.label("at_s")),
    ).subquery()
    last = sa.func.max(heard.c.at_s)
    query = sa.select(heard.c.rollout).group_by(heard.c.rollout)
    return list(connection.execute(query.order_by(last.desc(), heard.c.rollout)).scalars())
