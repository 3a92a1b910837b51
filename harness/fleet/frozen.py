"""The waves of a rollout as they were planned first: kept, so that a second plan gives the same.

Without the hosts that are done, waves planned again are other waves, and two hosts that were kept
apart may meet in one.
"""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from harness.core.errors import UsageError
from harness.core.identity import who_am_i
from harness.fleet.database import FleetDatabase
from harness.fleet.plans import HostPlan
from harness.fleet.schema import places, rollouts
from harness.fleet.waves import Wave


@dataclass(frozen=True)
class WavesAsked:
    """What waves were asked for; one rollout has one of these."""

    hosts: tuple[str, ...]
    canary: tuple[str, ...] = ()
    wave: tuple[str, ...] = ()
    """``HOST=N``, as it is typed."""
    at_most: int | None = None
    soak_s: float | None = None
    """From the end of a wave's last host to the beginning of the next wave."""

    def without(self, hosts: Container[str]) -> WavesAsked:
        """Return what was asked for the other hosts."""
        return replace(
            self,
            hosts=tuple(host for host in self.hosts if host not in hosts),
            canary=tuple(host for host in self.canary if host not in hosts),
            wave=tuple(text for text in self.wave if text.rpartition("=")[0] not in hosts),
        )

    def plain(self) -> dict[str, Any]:
        """Return what is compared and kept: the order in which things are named means nothing."""
        return {
            key: sorted(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


@dataclass(frozen=True)
class FrozenWaves:
    """The waves of a rollout; ``planned_s`` is of the database's clock."""

    rollout: str
    asked: Mapping[str, Any]
    planned_s: float
    planned_by: str
    waves: tuple[Wave, ...]
    plans: Mapping[str, HostPlan]
    """What each host planned then, also those that are left out."""

    @property
    def soak_s(self) -> float:
        """Seconds from the end of a wave to the beginning of the next."""
        return float(self.asked.get("soak_s") or 0.0)


def freeze(
    database: FleetDatabase,
    rollout: str,
    asked: WavesAsked,
    waves: Sequence[Wave],
    plans: Mapping[str, HostPlan],
) -> None:
    """Keep the waves of a rollout, unless it has some: then those stay.

    Raises InfrastructureError.
    """
    with database.changing() as connection:
        kept = connection.execute(
            database.insert(rollouts)
            .values(
                rollout=rollout,
                asked=json.dumps(asked.plain()),
                planned_s=database.now_s(connection),
                planned_by=f"{who_am_i()['user']}@{platform.node()}",
            )
            .on_conflict_do_nothing()
            .returning(rollouts.c.rollout)
        )
        if kept.first() is not None and plans:
            connection.execute(sa.insert(places), rows_of(rollout, waves, plans))


def rows_of(
    rollout: str, waves: Sequence[Wave], plans: Mapping[str, HostPlan], *, after: int = 0
) -> list[dict[str, Any]]:
    """Return a row for each host that has a plan; the first wave has the number ``after`` + 1."""
    numbers = {
        host: (number, wave.canary)
        for number, wave in enumerate(waves, after + 1)
        for host in wave.hosts
    }
    return [
        {
            "rollout": rollout,
            "host": host,
            "wave": numbers.get(host, (None, False))[0],
            "canary": numbers.get(host, (None, False))[1],
            "sets": json.dumps(sorted(plan.sets)),
            "guests": plan.guests,
            "not_needed": plan.not_needed,
        }
        for host, plan in plans.items()
    ]


def frozen_waves(database: FleetDatabase, rollout: str) -> FrozenWaves | None:
    """Return the waves of a rollout; None if it was not planned. Raises InfrastructureError."""
    with database.changing() as connection:
        return read_frozen(connection, rollout)


def read_frozen(connection: sa.Connection, rollout: str) -> FrozenWaves | None:
    """As ``frozen_waves``, within a transaction."""
    query = sa.select(rollouts).where(rollouts.c.rollout == rollout)
    head = connection.execute(query).mappings().one_or_none()
    if head is None:
        return None
    found = sa.select(places).where(places.c.rollout == rollout).order_by(places.c.host)
    hosts: dict[tuple[int, bool], list[str]] = defaultdict(list)
    plans = {}
    for row in connection.execute(found).mappings():
        sets = frozenset(json.loads(row["sets"]))
        plans[row["host"]] = HostPlan(sets, row["guests"], row["not_needed"])
        if row["wave"] is not None:
            hosts[row["wave"], row["canary"]].append(row["host"])
    return FrozenWaves(
        rollout,
        json.loads(head["asked"]),
        head["planned_s"],
        head["planned_by"],
        tuple(Wave(tuple(names), canary) for (_, canary), names in sorted(hosts.items())),
        plans,
    )


def expect_same_waves(frozen: FrozenWaves, asked: WavesAsked) -> None:
    """Raise UsageError where the rollout was planned with other arguments.

    Hosts that got their waves later may be among them, or not.
    """
    late = frozen.plans.keys() - {*frozen.asked["hosts"]}
    differs = "; ".join(
        f"{key}: {_change(frozen.asked.get(key), value)}"
        for key, value in asked.without(late).plain().items()
        if frozen.asked.get(key) != value
    )
    if differs:
        raise UsageError(
            f"rollout {frozen.rollout} was planned with other arguments: {differs}",
            hint="another rollout has an ID of its own; without files its waves are shown",
        )


def _change(before: Any, now: Any) -> str:
    if not isinstance(now, list):
        return f"was {_said(before)}, now {_said(now)}"
    gone, new = sorted({*(before or ())} - {*now}), sorted({*now} - {*(before or ())})
    parts = ((gone, "no longer"), (new, "now also"))
    return ", ".join(f"{what} {' '.join(names)}" for names, what in parts if names)


def _said(value: Any) -> str:
    return "not given" if value is None else str(value)
