"""A connection to the database of runs: its URL, its errors as ours, its tables up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from harness.core.errors import InfrastructureError, MissingCapability, UsageError
from harness.core.paths import state_dir
from harness.results.history.schema import HEAD


def connected(url: str) -> sa.Engine:
    """The database behind ``url``, made and migrated if need be; raises as ``History.open``."""
    with explained(url):
        engine = sa.create_engine(_url(url))
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _strict_sqlite)
        try:
            with engine.begin() as connection:
                _bring_up_to_date(connection)
        except BaseException:
            engine.dispose()
            raise
    return engine


def default_url() -> str:
    """``history.db`` in the state folder, which is made. Raises InfrastructureError."""
    folder = state_dir()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"cannot make {folder}: {error.strerror}") from error
    return sa.URL.create("sqlite", database=str(folder / "history.db")).render_as_string()


def _url(text: str) -> sa.URL:
    url = sa.make_url(text)
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    return url


def _strict_sqlite(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 10000")


@contextmanager
def explained(url: str) -> Iterator[None]:
    """What the library raises becomes ours, by class; passwords are not shown."""
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
            hint="pip install 'harness[postgresql]'",
        ) from error
    except DBAPIError as error:
        shown = sa.make_url(url).render_as_string(hide_password=True)
        said = str(error.orig).strip().splitlines()
        raise InfrastructureError(f"history {shown}: {said[0] if said else error}") from error


def _bring_up_to_date(connection: sa.Connection) -> None:
    version = None
    if sa.inspect(connection).has_table("alembic_version"):
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    if version == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise InfrastructureError(
            f"the history is at version {version}, which this harness does not know",
            hint="update harness",
        ) from error
