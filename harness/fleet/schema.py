"""The tables that the hosts of a fleet share. A change is a new migration and a new ``HEAD``."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Float, MetaData, String, Table

from harness.core.storage.database import Layout

HEAD = "0001"

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

#: A database may be that of the history too: each has a version of its own.
LAYOUT = Layout(
    "the fleet's database",
    Path(__file__).parent / "migrations",
    HEAD,
    metadata,
    version_table="fleet_version",
)
