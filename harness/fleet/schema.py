"""The tables that the hosts of a fleet share. A change is a new migration and a new ``HEAD``."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Boolean, Column, Float, Integer, MetaData, String, Table, Text

from harness.core.storage.database import Layout

HEAD = "0002"

metadata = MetaData()

leases = Table(
    "lease",
    metadata,
    Column("availability_set", String, primary_key=True),
    Column("update_domain", String, nullable=False),
    Column("run_id", String, nullable=False),
    Column("host", String, nullable=False),
    Column("taken_s", Float(53), nullable=False),  # seconds since 1970, by the database's clock
    Column("expires_s", Float(53), nullable=False),
)

rollouts = Table(
    "rollout",
    metadata,
    Column("rollout", String, primary_key=True),
    Column("asked", Text, nullable=False),  # JSON: the arguments that the waves were made from
    Column("planned_s", Float(53), nullable=False),
    Column("planned_by", String, nullable=False),
)

places = Table(
    "rollout_host",
    metadata,
    Column("rollout", String, primary_key=True),
    Column("host", String, primary_key=True),
    Column("wave", Integer),  # from 1; none: it is left out
    Column("canary", Boolean, nullable=False),
    Column("sets", Text, nullable=False),  # JSON: availability sets whose guests it would pause
    Column("guests", Integer, nullable=False),
    Column("not_needed", Text),
)

parts = Table(
    "rollout_part",
    metadata,
    Column("rollout", String, primary_key=True),
    Column("host", String, primary_key=True),
    Column("run_id", String, nullable=False),  # "" before there is a run
    Column("doing", Text, nullable=False),
    Column("soaking", Boolean, nullable=False),
    Column("began_s", Float(53), nullable=False),
    Column("told_s", Float(53), nullable=False),
    Column("due_s", Float(53)),  # its next word is expected by then; none: it has ended
    Column("ended_s", Float(53)),
    Column("ending", String),
    Column("exit_code", Integer),
    Column("message", Text),
    Column("pause_window_s", Float(53)),
    Column("residual_s", Float(53)),
    Column("guests", Integer),
    Column("answer", Text),  # JSON, as the host printed it
)

#: A database may be that of the history too: each has a version of its own.
LAYOUT = Layout(
    "the fleet's database",
    Path(__file__).parent / "migrations",
    HEAD,
    metadata,
    version_table="fleet_version",
)
