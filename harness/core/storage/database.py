"""Open a database with SQLAlchemy, bring its tables up to date, turn its errors into ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from harness.core.errors import InfrastructureError, MissingCapability, UsageError
from harness.core.extras import how_to_install
from harness.core.timebase import SYSTEM_CLOCK, Deadline

BUSY_S = 10.0
"""How long SQLite waits for a lock that another process holds."""
_AGAIN_S = 0.01


def _not_older(connection: sa.Connection) -> str | None:
    return None


@dataclass(frozen=True)
class Layout:
    """The tables of one database, and the way from any earlier version to the newest."""

    name: str
    """What a message calls the database: ``the history``."""
    versions: Path
    """The folder of its migrations."""
    head: str
    """The newest migration; at this one the migration library is not loaded."""
    metadata: sa.MetaData
    """The tables as the newest migration leaves them; a database without any is made from these."""
    adopt: Callable[[sa.Connection], str | None] = _not_older
    """Return the migration at which a database is that was made before there were migrations.

    Asked at each opening: raise InfrastructureError for one that may not be opened at all."""
    version_table: str = "alembic_version"
    """Says at which migration the tables are. Two layouts in one database have one each."""

    @property
    def ask_version(self) -> str:
        """Return the question for it as text: to put it together takes more than to ask it."""
        return f"SELECT version_num FROM {self.version_table}"

    @property
    def version(self) -> sa.Table:
        """That table, as the migration library makes it."""
        return sa.Table(
            self.version_table,
            sa.MetaData(),
            sa.Column("version_num", sa.String(32), nullable=False),
            sa.PrimaryKeyConstraint("version_num", name=f"{self.version_table}_pkc"),
        )


def make_engine(url: str | sa.URL, pragmas: Sequence[str] = (), **options: Any) -> sa.Engine:
    """Return an engine for ``url``; nothing is connected yet.

    Args:
        url: a URL that SQLAlchemy knows; ``postgresql://`` is psycopg's.
        pragmas: what each connection to SQLite begins with, after the busy timeout.
        options: of ``sqlalchemy.create_engine``.
    """
    parsed = sa.make_url(url)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(parsed, **options)
    if engine.dialect.name == "sqlite":

        def prepare(connection: Any, record: Any) -> None:
            connection.execute(f"PRAGMA busy_timeout = {round(BUSY_S * 1000)}")
            for pragma in pragmas:
                _set(connection, pragma)

        sa.event.listen(engine, "connect", prepare)
    return engine


def _set(connection: Any, pragma: str) -> None:
    """Set a pragma, also where others open the file at the same instant.

    SQLite does not wait for them as it changes the journal mode, whatever the busy timeout.
    """
    deadline = Deadline.after(BUSY_S)
    while True:
        try:
            connection.execute(f"PRAGMA {pragma}")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or deadline.expired:
                raise
        SYSTEM_CLOCK.sleep(_AGAIN_S)


@contextmanager
def explained(failed: str, hint: str | None = None) -> Iterator[None]:
    """Turn what the library raises into our errors, by class.

    Args:
        failed: how the message of an InfrastructureError begins; with no password in it.
        hint: of the same.

    Raises:
        UsageError: the URL is none.
        MissingCapability: the driver of that database is not installed.
        InfrastructureError: the database cannot be used.
    """
    try:
        yield
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError("not the URL of a database", hint="sqlite:///FILE, postgresql://…") from (
            error
        )
    except ModuleNotFoundError as error:
        raise MissingCapability(
            "postgresql-driver",
            f"this database needs the module {error.name}",
            hint=how_to_install("postgresql"),
        ) from error
    except DBAPIError as error:
        said = str(error.orig).strip().splitlines()
        raise InfrastructureError(f"{failed}: {said[0] if said else error}", hint=hint) from error


def bring_up_to_date(connection: sa.Connection, layout: Layout) -> None:
    """Make or migrate the tables within the transaction that ``connection`` is in.

    Raises InfrastructureError for a database of a later harness.
    """
    adopted, version = layout.adopt(connection), None
    there = set(sa.inspect(connection).get_table_names())
    if layout.version_table in there:
        version = connection.exec_driver_sql(layout.ask_version).scalar()
        if version == layout.head:
            return
    elif there.isdisjoint(layout.metadata.tables):
        _make(connection, layout)
        return
    if version is None and adopted is not None:
        _stamp(connection, layout, adopted)
    migrate(connection, layout)


def _make(connection: sa.Connection, layout: Layout) -> None:
    """Make all tables at once: loading the migration library takes 0.4 s."""
    layout.metadata.create_all(connection)
    _stamp(connection, layout, layout.head)


def _stamp(connection: sa.Connection, layout: Layout, version: str) -> None:
    table = layout.version
    table.create(connection)
    connection.execute(sa.insert(table).values(version_num=version))


def migrate(connection: sa.Connection, layout: Layout) -> None:
    """Apply the migrations that a database has not seen, which of an empty one is all of them.

    Raises InfrastructureError for a database of a later harness.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("version_locations", str(layout.versions))
    config.set_main_option("path_separator", "newline")
    config.attributes.update(connection=connection, version_table=layout.version_table)
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise InfrastructureError(
            f"{layout.name} is of a version that this harness does not know: {error}",
            hint="update harness",
        ) from error
