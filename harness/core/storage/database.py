"""Open a database with SQLAlchemy, bring its tables up to date, turn its errors into ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from harness.core.errors import InfrastructureError, MissingCapability, UsageError
from harness.core.extras import how_to_install

BUSY_S = 10.0
"""How long SQLite waits for a lock that another process holds."""


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
    adopt: Callable[[sa.Connection], str | None] = _not_older
    """Return the migration at which a database is that was made before there were migrations.

    Asked at each opening: raise InfrastructureError for one that may not be opened at all."""


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
                connection.execute(f"PRAGMA {pragma}")

        sa.event.listen(engine, "connect", prepare)
    return engine


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
    if sa.inspect(connection).has_table("alembic_version"):
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        if version == layout.head:
            return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("version_locations", str(layout.versions))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    try:
        if version is None and adopted is not None:
            command.stamp(config, adopted)
        command.upgrade(config, "head")
    except CommandError as error:
        raise InfrastructureError(
            f"{layout.name} is at version {version}, which this harness does not know",
            hint="update harness",
        ) from error
