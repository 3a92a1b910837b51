"""What the server does beside answering: what is due begins, what is dead goes."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core.timebase import NS_PER_S
from harness.events import scheduler
from harness.events.document import Event, EventType, State
from harness.events.order import Order
from harness.events.scheduler import (
    Caretaker,
    clear_dead,
    move,
    owner_of_process,
    schedule,
    scheduled,
)
from harness.events.store import Store
from harness.results.journal import Journal, entries
from harness.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(tmp_path, clock):
    with Store(tmp_path, clock) as opened:
        yield opened


class Begun(list):
    """The commands that were started; each ends when it is given a code."""

    def launch(self, command, log):
        self.append(SimpleNamespace(command=command, code=None))
        return SimpleNamespace(poll=lambda one=self[-1]: one.code)


@pytest.fixture
def begun():
    return Begun()


@pytest.fixture
def caretaker(tmp_path, clock, begun):
    """Makes one that starts nothing; ``said`` is what it tells."""
    with ExitStack() as stack:

        def make(config_file=None):
            said: list[str] = []
            care = Caretaker(tmp_path, config_file, clock, begun.launch, said.append)
            return stack.enter_context(closing(care)), said

        yield make


def later(store, clock, seconds, notice_s=60.0):
    start_ns = clock.realtime_ns() + seconds * NS_PER_S
    return schedule(store, start_ns, notice_s, Order(("a; b",), {"budget_s": 9.0}), "alice")


def state(store):
    return [(one.state, one.detail) for one in scheduled(store)]


def test_a_maintenance_begins_in_time_for_its_notice_and_its_end_is_noted(
    store, clock, tmp_path, begun, caretaker
):
    """Not earlier; not twice; by its number: what to do is data, and passes through no words."""
    later(store, clock, 1000)
    care, said = caretaker(tmp_path / "harness.toml")
    care.tick()
    assert begun == []
    clock.advance(1000 - 60 - scheduler.LEAD_S)
    care.tick()
    care.tick()
    (one,) = begun
    assert one.command == [
        *(sys.executable, "-P", "-m", "harness", "run"),
        *("--config", str(tmp_path / "harness.toml")),
        *("--scheduled", str(scheduled(store)[0].number)),
    ]
    assert state(store) == [("running", "")]
    one.code = 3
    care.tick()
    assert state(store) == [("failed", "exit code 3")]
    log = tmp_path / "scheduled-1.log"
    assert said == [
        f"maintenance #1 has begun; its output: {log}",
        "maintenance #1 failed: exit code 3",
    ]


def test_a_caretaker_lets_go_of_the_events(tmp_path, caretaker):
    """A connection that is left to the garbage collector is a warning since Python 3.13."""

    def connections() -> int:
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        return sum(os.path.realpath(link).startswith(str(tmp_path)) for link in links)

    care, _ = caretaker()
    assert connections() > 0
    care.close()
    assert connections() == 0


def test_what_was_missed_is_not_begun_behind_peoples_backs(store, clock, begun, caretaker):
    """No server was there for an hour; a few minutes late is still in time."""
    later(store, clock, 100)
    clock.advance(3600)
    later(store, clock, -300)
    care, said = caretaker()
    care.tick()
    assert [found[0] for found in state(store)] == ["missed", "running"]
    assert len(begun) == 1
    assert said[0] == "maintenance #1 was missed: no server was there in time"


def test_what_is_cancelled_does_not_begin(store, clock, begun, caretaker):
    """And what has begun cannot be cancelled here."""
    number = later(store, clock, 10)
    assert move(store, number, "waiting", "cancelled")
    assert not move(store, number, "waiting", "cancelled")
    clock.advance(10)
    care, _ = caretaker()
    care.tick()
    assert begun == []


def an_event(store, owner, *, start=False):
    event = Event("", EventType.FREEZE, ("web1",), State.PLANNED, 0)
    ids = [store.plan("guest:u", "0", event, owner=owner)]
    store.announce(ids, NS_PER_S)
    if start:
        store.start(ids)
    return ids[0]


def test_events_of_the_living_stay(store, tmp_path):
    """A run that holds its journal, a rehearsal that is this process."""
    run_dir = tmp_path / "runs" / "r1"
    run_dir.mkdir(parents=True)
    with Journal(run_dir, "r1"):
        ids = [
            an_event(store, f"run {run_dir}"),
            an_event(store, owner_of_process(os.getpid(), "test")),
        ]
        clear_dead(store, tmp_path)
        assert [store.find(e).state for e in ids] == [State.SCHEDULED] * 2
    clear_dead(store, tmp_path)
    assert [store.find(e).state for e in ids] == [State.CANCELLED, State.SCHEDULED]


@pytest.mark.parametrize("owner", ["process 1 0 x", "process x", "run /nowhere", "", "what ever"])
def test_events_of_the_dead_go_started_or_not(store, tmp_path, owner):
    """Whatever the owner says of itself."""
    event = an_event(store, owner, start=True)
    clear_dead(store, tmp_path)
    assert store.find(event).state is State.ENDED


def test_a_dead_run_that_had_started_keeps_its_event_until_it_is_recovered(store, tmp_path):
    """Its guests may be paused still, and their clocks are wrong: they must not go on yet."""
    run_dir = tmp_path / "runs" / "r1"
    run_dir.mkdir(parents=True)
    (run_dir / "run.json").write_text("{}")
    with Journal(run_dir, "r1") as journal:
        journal.intend(entries.RunStarted())
        event = an_event(store, f"run {run_dir}", start=True)
    clear_dead(store, tmp_path)
    assert store.find(event).state is State.STARTED
    with Journal(run_dir, "r1") as journal:
        journal.note(entries.Recovered())
    clear_dead(store, tmp_path)
    assert store.find(event).state is State.ENDED


def test_the_fake_clock_is_where_we_think():
    """So that the times above mean something."""
    assert datetime.fromtimestamp(FakeClock().realtime_ns() / NS_PER_S, tz=UTC).year == 2027
