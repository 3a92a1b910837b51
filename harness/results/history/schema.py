"""The tables. A change here is a new file in ``migrations/versions`` and a new ``HEAD``."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

#: The newest migration; a database at this one is opened without loading the migration library.
HEAD = "0001"

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("started_at", DateTime, nullable=False),  # UTC, without a zone
    Column("finished_at", DateTime),
    Column("outcome", String, nullable=False),
    Column("exit_code", Integer, nullable=False),
    Column("host", String, nullable=False),
    Column("accelerator", String, nullable=False),
    Column("hypervisor", String, nullable=False),
    Column("update_kind", String, nullable=False),
    Column("update_command", Text, nullable=False),  # JSON
    Column("guests", Integer, nullable=False),
    Column("label", String, nullable=False),
    Column("harness_version", String, nullable=False),
    Column("folder", Text, nullable=False),
)

figures = Table(
    "figures",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("guest", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", Float, nullable=False),
)

Index("runs_by_time", runs.c.started_at)
