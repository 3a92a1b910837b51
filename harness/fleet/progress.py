"""What a host tells the fleet's database of its part of a rollout: at its edges, never in a pause.

A view for people, nothing that a guest or a run depends on: a database that is gone is a warning.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from harness.core.durations import scaled
from harness.core.errors import HarnessError
from harness.core.records import NoticeRecord, Outcome, RunRecord
from harness.core.settings import Config
from harness.core.signals import Interruption
from harness.fleet.database import FleetDatabase
from harness.fleet.schema import parts
from harness.maintenance.notice import Notice
from harness.maintenance.plan import Plan, UpdateDomain
from harness.results.answer import Answer
from harness.results.history.figures import RUN, figures_of
from harness.results.journal import Journal
from harness.results.report.words import measured, printable

#: ``ending`` of a part whose run was found dead.
DIED = "died"
_NOTHING_YET: Mapping[str, Any] = {
    "doing": "",
    "soaking": False,
    **dict.fromkeys(
        ("due_s", "ended_s", "ending", "exit_code", "message")
        + ("pause_window_s", "residual_s", "guests", "answer")
    ),
}
#: Beside the time that is asked for: connections, reports, a busy host.
_STAY_S = 60.0


@dataclass(frozen=True)
class Patience:
    """Within how many seconds a host has more to tell, if it lives."""

    between_s: float
    """From one update domain to the next, and from the last to the end."""
    domain_s: float
    """From the announcement of an update domain to its end."""
    soak_s: float

    @classmethod
    def of(cls, config: Config) -> Patience:
        """Return that of a configuration: each limit that a run has, and some time beside."""
        notice_s = scaled(config.events.notice_s or 0.0, config.events.time_scale)
        pause_s = config.budget_s + config.resume_patience_s
        clocks_s = config.mend_timeout_s + config.clock.watch_s
        prepare_s = config.prepare_timeout_s
        return cls(
            2 * prepare_s + _STAY_S,
            prepare_s + notice_s + pause_s + clocks_s + _STAY_S,
            config.soak_s,
        )


class Progress:
    """For this host's part of one rollout. Nothing here raises a HarnessError."""

    def __init__(
        self,
        database: FleetDatabase,
        rollout: str,
        host: str | None,
        patience: Patience,
        tell: Callable[[str], object],
    ) -> None:
        """Nothing is written yet.

        Args:
            database: Where it is written.
            rollout: Its ID.
            host: What this host is called there; None: its host name.
            patience: Until when the next word is to be expected.
            tell: Called with one line where the database cannot be used.
        """
        self._database = database
        self._row = {"rollout": rollout, "host": host or platform.node()}
        self._patience = patience
        self._tell = tell
        self._run_id = ""

    def begins(self, later_s: float = 0.0) -> None:
        """It was begun; no guest is paused yet, nor within ``later_s``."""

        def write(connection: sa.Connection, now_s: float) -> None:
            due_s = now_s + later_s + self._patience.between_s
            said = {"run_id": "", "doing": "preparing", "began_s": now_s}
            more = {"told_s": now_s, "due_s": due_s}
            self._write(connection, {**_NOTHING_YET, **said, **more}, began_s=now_s)

        self._change(write)

    def run_begins(self, run_id: str) -> None:
        """Note the run that carries it out; told with what follows."""
        self._run_id = run_id

    def around(self, notice: Notice) -> Notice:
        """Return ``notice``, with each update domain's beginning and end told."""
        return _Told(notice, self)

    def domain_begins(self, number: int, of: int) -> None:
        """Its guests are notified, then paused."""
        self._say(f"update domain {number}/{of}", self._patience.domain_s)

    def domain_ended(self, number: int, of: int) -> None:
        """Its guests run, and their clocks and checks are done; or it did not happen."""
        last = number == of
        soak_s = 0.0 if last else self._patience.soak_s
        doing = f"update domain {number}/{of} is over"
        self._say(doing, self._patience.between_s + soak_s, soaking=soak_s > 0)

    def ended(self, answer: Answer, *, known: bool = False) -> None:
        """It is over; ``known``: it was before, and is written where the database lacks it."""
        record = answer.record
        run_id = record.run_id if record is not None else self._run_id

        def write(connection: sa.Connection, now_s: float) -> None:
            if known and self._has_ended(connection, run_id):
                return
            said = {
                **_NOTHING_YET,
                "run_id": run_id,
                "told_s": now_s,
                "ended_s": now_s,
                "ending": answer.outcome.value,
                "exit_code": answer.exit_code,
                "message": _text(_why(answer)),
                "answer": answer.model_dump_json(),
                **_figures(record),
            }
            self._write(connection, said, began_s=now_s)

        self._change(write)

    def died(self, error: HarnessError) -> None:
        """Its run was found dead: neither over nor recovered."""

        def write(connection: sa.Connection, now_s: float) -> None:
            said = {
                **_NOTHING_YET,
                "told_s": now_s,
                "ending": DIED,
                "exit_code": error.exit_code,
                "message": _text(str(error)),
            }
            self._write(connection, said, began_s=now_s)

        self._change(write)

    def _say(self, doing: str, within_s: float, **more: bool) -> None:
        def write(connection: sa.Connection, now_s: float) -> None:
            said = {
                **_NOTHING_YET,
                "run_id": self._run_id,
                "doing": doing,
                "told_s": now_s,
                "due_s": now_s + within_s,
                **more,
            }
            self._write(connection, said, began_s=now_s)

        self._change(write)

    def _write(self, connection: sa.Connection, said: dict[str, Any], *, began_s: float) -> None:
        row = self._database.insert(parts).values(
            **{"run_id": "", "began_s": began_s, **self._row, **said}
        )
        keys = [parts.c.rollout, parts.c.host]
        connection.execute(row.on_conflict_do_update(index_elements=keys, set_=said))

    def _has_ended(self, connection: sa.Connection, run_id: str) -> bool:
        query = sa.select(parts.c.ended_s).where(
            parts.c.rollout == self._row["rollout"],
            parts.c.host == self._row["host"],
            parts.c.run_id == run_id,
        )
        return connection.execute(query).scalar() is not None

    def _change(self, write: Callable[[sa.Connection, float], None]) -> None:
        try:
            with self._database.changing() as connection:
                write(connection, self._database.now_s(connection))
        except HarnessError as error:
            self._tell(f"the views of the fleet lack this: {error.message}")


class _Told:
    """A run's notice, with the beginning and the end of each update domain told."""

    def __init__(self, notice: Notice, progress: Progress) -> None:
        self._notice = notice
        self._progress = progress
        self._numbers: dict[str, int] = {}
        self._begun: set[str] = set()

    def begin(self, plan: Plan, run_dir: Path, journal: Journal) -> None:
        self._numbers = {domain.name: n for n, domain in enumerate(plan.domains, 1)}
        self._notice.begin(plan, run_dir, journal)

    def announce(self, domain: UpdateDomain) -> str:
        self._begun.add(domain.name)
        self._progress.domain_begins(self._numbers[domain.name], len(self._numbers))
        return self._notice.announce(domain)

    def wait(self, domain: UpdateDomain, seconds: float, interruption: Interruption) -> bool:
        return self._notice.wait(domain, seconds, interruption)

    def over(self, domain: UpdateDomain) -> None:
        self._notice.over(domain)
        if domain.name in self._begun:
            self._begun.remove(domain.name)
            self._progress.domain_ended(self._numbers[domain.name], len(self._numbers))

    def close(self) -> None:
        self._notice.close()

    def record(self, domain_name: str) -> NoticeRecord | None:
        return self._notice.record(domain_name)


def _text(text: str | None) -> str | None:
    """Return what every database can hold: PostgreSQL takes no NUL."""
    return None if text is None else printable(text)


def _why(answer: Answer) -> str | None:
    if answer.error is not None:
        guest = f"{answer.error.guest}: " if answer.error.guest else ""
        return f"{guest}{answer.error.message}"
    record = answer.record
    if record is None or answer.exit_code == 0:
        return None
    troubled = [
        f"{guest.name}: {check.name} {measured(check)} {check.detail}".strip()
        for guest in record.guests
        for check in guest.checks
        if check.outcome in (Outcome.FAIL, Outcome.ERROR)
    ]
    problems = (problem for one in record.update_domains for problem in one.problems)
    return "; ".join((*record.problems, *problems, *troubled)) or None


def _figures(record: RunRecord | None) -> dict[str, Any]:
    if record is None:
        return {}
    found = {one.name: one.value for one in figures_of(record) if one.guest == RUN}
    names = ("pause_window_s", "residual_s")
    return {"guests": len(record.guests), **{name: found.get(name) for name in names}}
