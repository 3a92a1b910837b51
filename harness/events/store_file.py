"""The file that holds the events: private, its tables as they are now or were, its errors ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from harness.core.errors import InfrastructureError
from harness.core.files import private_file
from harness.core.storage.database import BUSY_S, Layout, explained, make_engine
from harness.events.schema import HEAD, metadata

FILE_NAME = "events.db"
_BEFORE_MIGRATIONS = 1
"""``PRAGMA user_version`` of a store made before there were migrations; 0 is an empty file's."""
_NOW = 2
_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL")  # an incarnation must not go back


def _adopt(connection: sa.Connection) -> str | None:
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version not in (0, _BEFORE_MIGRATIONS, _NOW):
        raise InfrastructureError(
            f"the store of events is of version {version}; this harness knows {_NOW}",
            hint="update harness",
        )
    return "0001" if version == _BEFORE_MIGRATIONS else None


LAYOUT = Layout("the store of events", Path(__file__).parent / "migrations", HEAD, metadata, _adopt)


def engine_for(path: Path) -> sa.Engine:
    """Return what connects to the file, which is made if it is not there; for one connection."""
    _make_private(path)
    return make_engine(
        sa.URL.create("sqlite", database=str(path)),
        _PRAGMAS,
        isolation_level="AUTOCOMMIT",  # transactions are begun by ``Store.changing`` only
        poolclass=StaticPool,
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
    )


def _make_private(path: Path) -> None:
    """For its owner alone; one that is there keeps its locks, which say that it is in use."""
    private_file(path)
    path.chmod(0o600)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """What the disk, SQLite and SQLAlchemy say becomes InfrastructureError."""
    failed, hint = f"cannot use {path}", "free some space, or check its permissions"
    try:
        with explained(failed, hint):
            yield
    except (sqlite3.Error, OSError) as error:
        raise InfrastructureError(f"{failed}: {error}", hint=hint) from error
