"""A connection to the database of runs: its URL, its tables up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from harness.core.errors import InfrastructureError
from harness.core.files import private_folder
from harness.core.paths import state_dir
from harness.core.storage import database
from harness.core.storage.database import Layout, bring_up_to_date, make_engine
from harness.results.history.schema import HEAD, metadata

LAYOUT = Layout("the history", Path(__file__).parent / "migrations", HEAD, metadata)


def connected(url: str) -> sa.Engine:
    """The database behind ``url``, made and migrated if need be; raises as ``History.open``."""
    with explained(url):
        engine = make_engine(url, ["foreign_keys = ON"])
        try:
            with engine.begin() as connection:
                bring_up_to_date(connection, LAYOUT)
        except BaseException:
            engine.dispose()
            raise
    return engine


def default_url() -> str:
    """``history.db`` in the state folder, which is made. Raises InfrastructureError."""
    folder = state_dir()
    try:
        private_folder(folder)
    except OSError as error:
        raise InfrastructureError(f"cannot make {folder}: {error.strerror}") from error
    return sa.URL.create("sqlite", database=str(folder / "history.db")).render_as_string()


@contextmanager
def explained(url: str) -> Iterator[None]:
    """``storage.database.explained``, by the URL of the history without its password."""
    try:
        shown = sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        shown = "database"  # the error below says that it is no URL
    with database.explained(f"history {shown}"):
        yield
