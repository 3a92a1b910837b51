"""Databases for contracts that hold on SQLite and on a real PostgreSQL; a home for SSH.

Requires: Debian's package ``postgresql``, or its tests are skipped, and fail where
``HARNESS_REQUIRE`` names ``postgresql``. Leaves behind: nothing.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.postgresql import PostgreSQL, postgresql_server


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home without keys, known hosts and agent; ``home / ".ssh"`` is there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server of our own."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'one.db'}"
    server = request.getfixturevalue("postgresql")
    server.empty()
    return server.url


def shape(connection: sa.Connection) -> dict[str, object]:
    """Tables, column by column, with their keys and indexes."""
    inspector = sa.inspect(connection)
    return {
        table: (
            [{**column, "type": str(column["type"])} for column in inspector.get_columns(table)],
            inspector.get_pk_constraint(table),
            inspector.get_foreign_keys(table),
            inspector.get_indexes(table),
        )
        for table in inspector.get_table_names()
    }


@contextmanager
def mounting(factory: pytest.TempPathFactory) -> Iterator[Callable[[Path, Path], None]]:
    """``mount(ours, path)``: a file or folder of ours in the place of ``path``, until the end.

    In this namespace only, which the workers share: one of them at a time. Skips outside of one.
    """
    if os.geteuid() != 0 or os.environ.get("HARNESS_NAMESPACE") != "inside":
        pytest.skip("mounts over the host's files: run it by scripts/in-namespace")
    with ExitStack() as undo:
        shared = os.open(factory.getbasetemp().parent, os.O_RDONLY | os.O_DIRECTORY)
        undo.callback(os.close, shared)
        fcntl.flock(shared, fcntl.LOCK_EX)

        def mount(ours: Path, path: Path) -> None:
            subprocess.run(["mount", "--bind", ours, path], check=True)
            undo.callback(lambda: subprocess.run(["umount", "--lazy", path], check=True))

        yield mount
