"""What the server does beside answering: scheduled maintenances are carried out, the dead cleared.

An event whose driver is dead is removed, so that no guest waits without end: at once if it had not
started; if it had, when the run has been recovered, because its removal tells guests to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from harness.core.background import start_in_background
from harness.core.errors import EventError, JournalError
from harness.core.process_stat import is_same_process, start_ticks
from harness.core.process_state import python_module
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.events.document import State
from harness.events.order import Order
from harness.events.schema import schedules
from harness.events.shared import SharedStore
from harness.events.store import Store
from harness.results.journal import FILE_NAME, in_use
from harness.results.unfinished import dead_runs

#: A run logs in and takes baselines before it announces.
LEAD_S = 30.0
#: A maintenance whose time was missed by more than this is not begun behind people's backs.
LATE_S = 900.0
_TOO_LATE = "no server was there in time"


@dataclass(frozen=True)
class Scheduled:
    """A maintenance for later; ``start_ns``: CLOCK_REALTIME before which no guest is paused."""

    number: int
    start_ns: int
    notice_s: float
    order: Order
    state: str
    made_by: str
    detail: str


def schedule(store: Store, start_ns: int, notice_s: float, order: Order, made_by: str) -> int:
    """Write down a maintenance for a server to carry out; returns its number."""
    with store.changing() as db:
        row = {"start_ns": start_ns, "notice_s": notice_s, "order_json": order.as_json()}
        done = db.execute(sa.insert(schedules).values(**row, state="waiting", made_by=made_by))
        return int(done.lastrowid)


def scheduled(store: Store) -> list[Scheduled]:
    """Every maintenance that was ever scheduled, oldest first."""
    query = sa.select(schedules).order_by(schedules.c.number)
    return [_scheduled(row) for row in store.rows(query)]


def _scheduled(row: sa.RowMapping) -> Scheduled:
    values = dict(row)
    return Scheduled(order=Order.read(values.pop("order_json")), **values)


def find_waiting(store: Store, start_ns: int, notice_s: float, order: Order) -> int | None:
    """Return the number of a maintenance that waits and is the same in all; None if none is."""
    same = (order.as_json(), start_ns, notice_s)
    for one in scheduled(store):
        if one.state == "waiting" and (one.order.as_json(), one.start_ns, one.notice_s) == same:
            return one.number
    return None


def find_scheduled(store: Store, number: int) -> Scheduled:
    """Return one scheduled maintenance. Raises EventError if there is none of that number."""
    found = next((one for one in scheduled(store) if one.number == number), None)
    if found is None:
        raise EventError(f"no scheduled maintenance #{number}", hint="harness events list --all")
    return found


def move(store: Store, number: int, before: str, after: str, detail: str = "") -> bool:
    """Change the state of a scheduled maintenance; False if it was not in ``before``."""
    with store.changing() as db:
        done = db.execute(
            sa.update(schedules)
            .where(schedules.c.number == number, schedules.c.state == before)
            .values(state=after, detail=detail)
        )
        return done.rowcount == 1


class Begun(Protocol):
    """A maintenance that was begun, in a process of its own."""

    def poll(self) -> int | None:
        """Return its exit code; None: it goes on."""


class Caretaker:
    """For one thread at a time; ``tick`` it about once a second."""

    def __init__(
        self,
        state_dir: Path,
        config_file: Path | None,
        clock: Clock = SYSTEM_CLOCK,
        launch: Callable[[Sequence[str], Path], Begun] = start_in_background,
        tell: Callable[[str], None] = lambda line: None,
        shared: SharedStore | None = None,
    ) -> None:
        """Take care of what is in ``state_dir``.

        ``launch`` starts a command whose output goes to a file; ``tell`` gets a line of what
        begins, what has ended, and what was missed. ``shared``: where hosts share their events;
        what is scheduled is in ``state_dir`` all the same.
        """
        self._state_dir = state_dir
        self._config_file = config_file
        self._clock = clock
        self._running: dict[int, Begun] = {}
        self._launch, self._tell = launch, tell
        self._store = Store(state_dir, clock)
        self._events = self._store if shared is None else Store(state_dir, clock, shared)

    def close(self) -> None:
        """Let go of the events; runs that were begun go on."""
        self._store.close()
        self._events.close()

    def tick(self) -> None:
        """Note what has ended, begin what is due, clear what the dead left."""
        self._note_ended()
        now_ns = self._clock.realtime_ns()
        for one in scheduled(self._store):
            if one.state != "waiting":
                continue
            begin_ns = one.start_ns - round((one.notice_s + LEAD_S) * NS_PER_S)
            if now_ns > one.start_ns + round(LATE_S * NS_PER_S):
                if move(self._store, one.number, "waiting", "missed", _TOO_LATE):
                    self._tell(f"maintenance #{one.number} was missed: {_TOO_LATE}")
            elif now_ns >= begin_ns and move(self._store, one.number, "waiting", "running"):
                self._begin(one)
        clear_dead(self._events, self._state_dir)  # the last: it may have to wait

    def _begin(self, one: Scheduled) -> None:
        config = ["--config", str(self._config_file)] if self._config_file else []
        which = ["--scheduled", str(one.number)]  # the run reads what it is to do from the store
        command = python_module("harness", "run", *config, *which)
        log = self._state_dir / f"scheduled-{one.number}.log"
        self._running[one.number] = self._launch(command, log)  # survives a server that is stopped
        self._tell(f"maintenance #{one.number} has begun; its output: {log}")

    def _note_ended(self) -> None:
        for number, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                after = "done" if code == 0 else "failed"
                move(self._store, number, "running", after, f"exit code {code}")
                self._tell(f"maintenance #{number} {after}: exit code {code}")
                del self._running[number]


def owner_of_process(pid: int, what: str) -> str:
    """An owner that lives as long as this process."""
    return f"process {pid} {start_ticks(pid)} {what}"


def clear_dead(store: Store, state_dir: Path) -> None:
    """Remove this host's events whose driver is gone."""
    for found in store.events(State.PLANNED, State.SCHEDULED, State.STARTED):
        if found.host != store.host or _lives(found.owner):
            continue
        store.cancel([found.event.event_id])
        if found.state is State.STARTED and not _to_be_recovered(found.owner, state_dir):
            try:
                store.end([found.event.event_id])
            except EventError:
                continue  # another process was faster


def _lives(owner: str) -> bool:
    kind, _, rest = owner.partition(" ")
    if kind == "run":
        try:
            return in_use(Path(rest) / FILE_NAME)
        except JournalError:
            return False  # its folder is gone
    try:
        pid, ticks, *_ = rest.split(" ")
        return is_same_process(int(pid), int(ticks))
    except ValueError:
        return False


def _to_be_recovered(owner: str, state_dir: Path) -> bool:
    return any(owner == f"run {folder.path}" for folder in dead_runs(state_dir))
