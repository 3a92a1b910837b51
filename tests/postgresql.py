"""A PostgreSQL for tests.

Requires: Debian's package ``postgresql``, or a test is skipped, and fails where ``HARNESS_REQUIRE``
names ``postgresql``. Leaves behind: nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.testing.required import required


def _as_postgres(*words: str | Path) -> None:
    """PostgreSQL refuses to work for root; Debian's package brings a user of its own."""
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    command = [*(user if os.geteuid() == 0 else []), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class PostgreSQL:
    """A server on a Unix socket in its folder."""

    programs: Path
    folder: Path

    @property
    def url(self) -> str:
        return f"postgresql://harness@/postgres?host={self.folder}"

    def empty(self) -> None:
        engine = connected(self.url)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
        engine.dispose()

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        self._control("-l", self.folder / "log", "-o", options, "start")

    def stop(self) -> None:
        """At once, as a power cut."""
        self._control("-m", "immediate", "stop")

    def _control(self, *words: str | Path) -> None:
        _as_postgres(self.programs / "pg_ctl", "-D", self.folder / "data", "-w", *words)


@contextmanager
def postgresql_server() -> Iterator[PostgreSQL]:
    """A server of our own: fresh, only on a Unix socket, gone afterwards."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found and required("postgresql"):
        pytest.fail("PostgreSQL is required, and is not installed")
    if not found:
        pytest.skip("no PostgreSQL: Debian's package postgresql is not installed")
    folder = Path(tempfile.mkdtemp(prefix="harness-pg-", dir="/tmp"))
    server = PostgreSQL(found[-1].parent, folder)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    try:
        initdb = ("--auth=trust", "--username=harness", "--encoding=UTF8", "--no-sync")
        _as_postgres(server.programs / "initdb", "-D", folder / "data", *initdb)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def connected(url: str) -> sa.Engine:
    """The database as SQLAlchemy has it."""
    return sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
