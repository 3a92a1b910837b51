"""How a database is opened; what is in one is tested with its store."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa

from harness.core.errors import InfrastructureError
from harness.core.storage.database import explained, make_engine


class Contended(sqlite3.Connection):
    """Others open the file at the same instant: SQLite refuses to change the journal mode."""

    refusals = 0
    code = sqlite3.SQLITE_BUSY

    def execute(self, statement, *given):
        if "journal_mode" in statement and Contended.refusals:
            Contended.refusals -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = Contended.code
            raise error
        return super().execute(statement, *given)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Open a file, refused so many times with that code; returns its journal mode."""

    def connect(refusals: int, code: int) -> str:
        monkeypatch.setattr(Contended, "refusals", refusals)
        monkeypatch.setattr(Contended, "code", code)
        url = sa.URL.create("sqlite", database=str(tmp_path / "x.db"))
        engine = make_engine(url, ("journal_mode = WAL",), connect_args={"factory": Contended})
        try:
            with explained("cannot use x.db"), engine.connect() as connection:
                return connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        finally:
            engine.dispose()

    return connect


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY])
def test_a_file_that_others_open_at_the_same_instant_is_opened(opened, code):
    """Eight at once made it fail in 1 of 180 rounds: SQLite's busy timeout is not for that."""
    assert opened(2, code) == "wal"


def test_what_no_waiting_mends_is_said_at_once(opened):
    with pytest.raises(InfrastructureError, match="cannot use x.db"):
        opened(1, sqlite3.SQLITE_IOERR)
    assert Contended.refusals == 0
