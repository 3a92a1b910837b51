"""What holds the events: a private file of this host's, or a database that hosts share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import StaticPool

from harness.core.errors import InfrastructureError
from harness.core.files import private_file, private_folder
from harness.core.storage.database import (
    BUSY_S,
    Layout,
    bring_up_to_date,
    explained,
    make_engine,
)
from harness.core.storage.shared import SharedDatabase
from harness.core.trust import refuse_untrusted
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


class Tables(Protocol):
    """Where the tables of the events are. Raises InfrastructureError; for one thread."""

    look_s: float
    """So often it may be asked whether something has changed."""

    def changing(self) -> AbstractContextManager[sa.Connection]:
        """One transaction, of one host at a time: all of it or, after an exception, nothing."""

    def looking(self) -> AbstractContextManager[None]:
        """What is asked within a ``with`` is answered as of one moment."""

    def rows(self, question: sa.Select[Any], **values: str) -> Sequence[sa.RowMapping]:
        """Return the rows that answer a question."""

    def version(self) -> int:
        """Return a number that differs after any other connection commits."""

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT that knows what to do about a row that is there."""

    def close(self) -> None:
        """Let go."""


class EventsFile:
    """A file in a folder of this host; see :class:`Tables`."""

    look_s = 0.02

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        with translated(self.path):
            refuse_untrusted(private_folder(folder))
            self._engine = engine_for(self.path)
            self._db = self._engine.connect()
            # Four times a poll; by SQLAlchemy it would cost more than all the rest of an answer.
            self._driver: Any = self._db.connection.driver_connection
        try:
            with self.changing() as db:
                bring_up_to_date(db, LAYOUT)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
        self._engine.dispose()

    @contextmanager
    def changing(self) -> Iterator[sa.Connection]:
        """One transaction."""
        with translated(self.path):
            self._db.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.rollback()
                raise
            self._db.commit()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """What is asked within a ``with`` is answered as of one moment."""
        with self.changing():
            yield

    def rows(self, question: sa.Select[Any], **values: str) -> Sequence[sa.RowMapping]:
        """Return the rows that answer a question."""
        with translated(self.path):
            return self._db.execute(question, values).mappings().all()

    def version(self) -> int:
        """Return a number that differs after any other connection commits. Cheap."""
        with translated(self.path):
            return int(self._driver.execute("PRAGMA data_version").fetchone()[0])

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT that knows what to do about a row that is there."""
        return sqlite.insert(table)


#: Of PostgreSQL's advisory lock by which one host at a time changes events.
_CHANGING = 0x65766E74


class EventsShared:
    """A database that hosts share; see :class:`Tables`."""

    look_s = 0.25

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database
        self._in: sa.Connection | None = None
        self._looks = 0

    def close(self) -> None:
        """Let go of the connection."""
        self._database.close()

    @contextmanager
    def changing(self) -> Iterator[sa.Connection]:
        """One transaction."""
        with self._database.changing() as db:
            if self._database.dialect == "postgresql":
                db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CHANGING})")
            self._in = db
            try:
                yield db
            finally:
                self._in = None

    @contextmanager
    def looking(self) -> Iterator[None]:
        """What is asked within a ``with`` is answered as of one moment."""
        with self._database.looking() as db:
            self._in = db
            try:
                yield
            finally:
                self._in = None

    def rows(self, question: sa.Select[Any], **values: str) -> Sequence[sa.RowMapping]:
        """Return the rows that answer a question, within the transaction that goes on, if any."""
        if self._in is not None:
            return self._in.execute(question, values).mappings().all()
        with self._database.looking() as db:
            return db.execute(question, values).mappings().all()

    def version(self) -> int:
        """Return another number each time: what others did is not told."""
        self._looks += 1
        return self._looks

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT that knows what to do about a row that is there."""
        return self._database.insert(table)


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
