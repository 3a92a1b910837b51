"""A database that several hosts share: one transaction at a time, and never a long wait.

A database that is gone must be noticed when it is asked, not by a connection that hangs.
PostgreSQL's clock decides for all hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import NullPool, QueuePool

from harness.core.errors import ConfigError, InfrastructureError
from harness.core.files import private_file
from harness.core.storage.database import Layout, bring_up_to_date, explained, make_engine
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock

#: For a connection to be made, and for each statement of it.
LIMIT_S = 10
#: Of PostgreSQL's advisory lock by which one host at a time makes the tables.
_MAKING = 0x6861726E
_POSTGRESQL: dict[str, Any] = {
    "connect_timeout": LIMIT_S,
    "tcp_user_timeout": LIMIT_S * 1000,
    "application_name": "harness",
    "options": f"-c statement_timeout={LIMIT_S * 1000} -c lock_timeout={LIMIT_S * 1000}",
}


class SharedDatabase:
    """A database by its URL; nothing is connected until it is asked."""

    def __init__(
        self,
        url: str,
        layout: Layout,
        *,
        key: str,
        name: str,
        keep: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Take note of the database.

        Args:
            url: As SQLAlchemy knows it.
            layout: Its tables, which are made or brought up to date when it is asked first.
            key: Of harness.toml, for a URL that may not be used.
            name: What messages call it.
            keep: Keep the connection for what is asked next; else each question has one.
            clock: That of a database without one: SQLite.

        Raises ConfigError for a URL with a password, UsageError for what is none,
        MissingCapability for a driver that is not installed.
        """
        with explained(key):
            parsed = sa.make_url(url)
            if parsed.password is not None:
                raise ConfigError(
                    "a URL with a password would be shown and kept with every run",
                    key=key,
                    hint="~/.pgpass (PGPASSFILE) has the password; postgresql://USER@HOST/DATABASE",
                )
            self.shown = parsed.render_as_string(hide_password=True)
            more: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "poolclass": NullPool}
            if keep:
                more |= {"poolclass": QueuePool, "pool_size": 1, "pool_pre_ping": True}
            if parsed.get_backend_name().startswith("postgres"):
                more["connect_args"] = _with_given(parsed)
            self._engine = make_engine(url, ("journal_mode = WAL", "synchronous = FULL"), **more)
        self._clock = clock
        self._layout = layout
        self._failed = f"{name} {self.shown} cannot be used"
        self._ready = False

    def close(self) -> None:
        """Let go of a connection that was kept."""
        self._engine.dispose()

    @property
    def dialect(self) -> str:
        """``postgresql`` or ``sqlite``."""
        return self._engine.dialect.name

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT that knows what to do about a row that is there (``on_conflict_…``)."""
        return _INSERT[self.dialect](table)

    @contextmanager
    def changing(self) -> Iterator[sa.Connection]:
        """One transaction: all of it or, after an exception, nothing.

        Raises InfrastructureError, within some ``LIMIT_S`` seconds a statement.
        """
        with self._transaction(_BEGIN.get(self.dialect, "BEGIN")) as connection:
            self._bring_up_to_date(connection)
            yield connection
        self._ready = True

    @contextmanager
    def looking(self) -> Iterator[sa.Connection]:
        """One moment of it: nothing is changed, no host waits for it. Raises as ``changing``."""
        if not self._ready:
            with self.changing():
                pass
        with self._transaction(_LOOK.get(self.dialect, "BEGIN")) as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        with explained(self._failed, _HINT):
            self._private()
            with self._engine.connect() as connection:
                connection.exec_driver_sql(begin)
                try:
                    yield connection
                except BaseException:
                    with suppress(sa.exc.DBAPIError):  # of a connection that is lost
                        connection.exec_driver_sql("ROLLBACK")
                    raise
                connection.exec_driver_sql("COMMIT")

    def now_s(self, connection: sa.Connection) -> float:
        """Return seconds since 1970, by the clock that decides for all hosts."""
        if self.dialect != "postgresql":
            return self._clock.realtime_ns() / NS_PER_S
        now = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())")
        return float(now.scalar_one())

    def _bring_up_to_date(self, connection: sa.Connection) -> None:
        if self._ready:
            return
        if self.dialect == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MAKING})")
        bring_up_to_date(connection, self._layout)

    def _private(self) -> None:
        """A file is for its owner alone, from its first moment on."""
        name = self._engine.url.database
        if self.dialect != "sqlite" or not name:
            return
        try:
            private_file(Path(name))
        except OSError as error:
            raise InfrastructureError(
                f"cannot make {name}: {error.strerror}", hint=_HINT
            ) from error


_HINT = "nothing was paused for it; start it, or look at its log"
_INSERT: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_BEGIN = {"sqlite": "BEGIN IMMEDIATE"}
_LOOK = {"postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}


def _with_given(url: sa.URL) -> dict[str, Any]:
    """What the URL says of a connection goes before what we say."""
    return {key: value for key, value in _POSTGRESQL.items() if key not in url.query}
