"""The database of runs: opened, brought up to date, filled from run folders, asked.

``$HARNESS_HISTORY_URL`` is any URL that SQLAlchemy knows, for example
``postgresql://harness@db/harness``; the default is ``history.db`` in the state folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from harness.core.errors import UsageError
from harness.results.history.connection import connected, default_url, explained
from harness.results.history.schema import figures, runs

URL_VARIABLE = "HARNESS_HISTORY_URL"
#: Runs of these labels are never what tonight is compared with.
APART = ("warm-up", "experiment")
#: Rows that are read ahead where a reader may stop.
_AT_ONCE = 100


@dataclass(frozen=True)
class Run:
    """One run as the history knows it."""

    run_id: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    exit_code: int
    host: str
    accelerator: str
    hypervisor: str
    update_kind: str
    update_command: str
    guests: int
    label: str
    harness_version: str
    folder: str


class History:
    """An open history; a context manager. Every method may raise InfrastructureError."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str | None = None) -> History:
        """Open ``url`` (default: the environment's, else a file), made and migrated if need be.

        Raises UsageError for a URL that is none, MissingCapability for a driver that is not there,
        InfrastructureError if the database cannot be used.
        """
        return cls(connected(url or os.environ.get(URL_VARIABLE) or default_url()))

    def __enter__(self) -> History:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.dispose()

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        with explained(self._engine.url.render_as_string()), self._engine.begin() as connection:
            yield connection

    def add(self, folder: Any) -> None:
        """Put the run of a RunFolder in, again if it is there already. Raises UsageError too."""
        from harness.results.history.figures import figures_of

        record = folder.record()
        with self._connection() as connection:
            for table in (figures, runs):
                connection.execute(sa.delete(table).where(table.c.run_id == record.run_id))
            row = _row(record, str(folder.path.resolve()))
            connection.execute(sa.insert(runs), row)
            measured = [
                {"run_id": record.run_id, "guest": _storable(f.guest), "name": f.name,
                 "value": f.value}
                for f in figures_of(record)
            ]  # fmt: skip
            if measured:
                connection.execute(sa.insert(figures), measured)

    def newest(
        self, *, since: datetime | None = None, limit: int | None = None, apart: bool = True
    ) -> list[Run]:
        """Runs, newest first; without ``apart`` no warm-ups and no experiments."""
        query = sa.select(runs).order_by(runs.c.started_at.desc(), runs.c.run_id.desc())
        if since is not None:
            query = query.where(runs.c.started_at >= _naive(since))
        if not apart:
            query = query.where(runs.c.label.not_in(APART))
        if limit is not None:
            query = query.limit(limit)
        with self._connection() as connection:
            return [_run(row) for row in connection.execute(query)]

    def alike(self, run: Run, before: datetime) -> Iterator[Run]:
        """Yield passed runs of the same host, accelerator, kind and size, newest first.

        Without warm-ups and experiments. They are read as they are asked for: a caller who has
        enough stops.
        """
        same = ("host", "accelerator", "update_kind", "guests")
        query = (
            sa.select(runs)
            .where(*(runs.c[key] == getattr(run, key) for key in same))
            .where(runs.c.outcome == "pass", runs.c.label.not_in(APART))
            .where(runs.c.started_at < _naive(before))
            .order_by(runs.c.started_at.desc(), runs.c.run_id.desc())
        )
        with self._connection() as connection:
            rows = connection.execution_options(yield_per=_AT_ONCE).execute(query)
            with closing(rows):
                yield from map(_run, rows)

    def count(self) -> int:
        """How many runs it knows."""
        with self._connection() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(runs)).scalar_one()

    def find(self, wanted: str | None) -> Run:
        """The run with that id, or a unique beginning or end of one; None: the newest."""
        query = sa.select(runs).order_by(runs.c.started_at.desc(), runs.c.run_id.desc()).limit(2)
        if wanted:
            query = query.where(
                runs.c.run_id.startswith(wanted, autoescape=True)
                | runs.c.run_id.endswith(wanted, autoescape=True)
            )
        with self._connection() as connection:
            found = [_run(row) for row in connection.execute(query)]
        if not found:
            which = f"run {wanted!r}" if wanted else "run yet"
            raise UsageError(f"no {which} in the history", hint="harness history import")
        if wanted and len(found) > 1:
            raise UsageError(f"{wanted!r} fits several runs", hint="give more of the id")
        return found[0]

    def figures(self, run_ids: Sequence[str], guest: str | None = None) -> list[dict[str, Any]]:
        """``run_id``, ``guest``, ``name``, ``value`` of these runs; ``guest`` narrows it down."""
        found: list[dict[str, Any]] = []
        with self._connection() as connection:
            for start in range(0, len(run_ids), 500):  # databases limit a statement's variables
                some = run_ids[start : start + 500]
                query = sa.select(figures).where(figures.c.run_id.in_(some))
                if guest is not None:
                    query = query.where(figures.c.guest == guest)
                query = query.order_by(figures.c.run_id, figures.c.guest, figures.c.name)
                found += [dict(row._mapping) for row in connection.execute(query)]
        return found

    def trend(
        self, name: str, guest: str, *, since: datetime | None = None, limit: int | None = None
    ) -> list[tuple[Run, float]]:
        """A figure over time, oldest first; without warm-ups and experiments."""
        query = (
            sa.select(runs, figures.c.value)
            .join(figures, figures.c.run_id == runs.c.run_id)
            .where(figures.c.name == name, figures.c.guest == guest)
            .where(runs.c.label.not_in(APART))
            .order_by(runs.c.started_at.desc())
            .limit(limit)
        )
        if since is not None:
            query = query.where(runs.c.started_at >= _naive(since))
        with self._connection() as connection:
            found = [(_run(row), float(row.value)) for row in connection.execute(query)]
        return found[::-1]


def as_data(run: Run) -> dict[str, Any]:
    """A run for JSON and CSV."""
    data = asdict(run)
    data["started_at"] = run.started_at.isoformat()
    data["finished_at"] = run.finished_at.isoformat() if run.finished_at else None
    data["update_command"] = json.loads(run.update_command)
    return data


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL, and nothing outside Unicode."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _row(record: Any, folder: str) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "started_at": _naive(record.started_at),
        "finished_at": _naive(record.finished_at) if record.finished_at else None,
        "outcome": record.outcome.value,
        "exit_code": record.exit_code,
        "host": _storable(record.host.hostname),
        "accelerator": record.host.accelerator,
        "hypervisor": record.host.hypervisor,
        "update_kind": record.update.kind,
        "update_command": json.dumps(record.update.command),
        "guests": len(record.guests),
        "label": record.label,
        "harness_version": record.harness_version,
        "folder": _storable(folder),
    }


def _run(row: Any) -> Run:
    values = {name: value for name, value in row._mapping.items() if name in runs.c}
    for key in ("started_at", "finished_at"):
        if values[key] is not None:
            values[key] = values[key].replace(tzinfo=UTC)
    return Run(**values)


def import_all(history: History, folders: Iterable[Any]) -> tuple[int, list[str]]:
    """Put every run folder in; how many, and which could not be read and why."""
    done, refused = 0, []
    for folder in folders:
        try:
            history.add(folder)
            done += 1
        except UsageError as error:
            refused.append(str(error))
    return done, refused
