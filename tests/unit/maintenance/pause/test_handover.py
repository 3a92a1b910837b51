"""Guests that are handed over to another kernel: until this one is left, they go on in place."""

from __future__ import annotations

import pytest

from harness.core.errors import HypervisorError, UpdateFailed
from harness.core.signals import Interruption
from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState
from harness.host.parking import Berth
from harness.host.protocol import ProcessIdentity
from harness.maintenance.pause.resume import resume_all
from harness.maintenance.pause.swap import Swap
from harness.maintenance.pause.terms import Limits, UpdateCalls
from harness.maintenance.pause.window import hold_window
from harness.results.journal import Journal, Member, entries, fold, read
from harness.results.journal.entries import Leaving
from harness.testing.guard import FakeGuard
from harness.testing.hypervisor import FakeHypervisor
from harness.updates.protocol import SwapPlan
from tests.unit.maintenance.pause.test_parking import parking

RUNNING = GuestState.RUNNING


class Left(BaseException):
    """This kernel is no more: nothing of this process goes on."""


class Kernel:
    """The next kernel, which refuses, or ends this process in the test's way."""

    release = "6.12"
    plan = "/plan"

    def __init__(self, end: BaseException | None) -> None:
        self.end = end
        self.did: list[str] = []
        self.closing: Swap | None = None

    def sync(self) -> None:
        self.did.append("sync")
        if self.closing is not None:
            self.closing.quiesce(Deadline.after(0))

    def leaving(self) -> Leaving:
        return Leaving(self.release, "one", tsc=1, at_realtime_ns=2, counts_per_ns=1.0)

    def start(self):
        self.did.append("start")
        assert self.end is not None
        raise self.end


class Bench:
    """A window over two guests whose kernel is to be left."""

    def __init__(self, folder, kernel: Kernel) -> None:
        self.names = ("a", "b")
        self.hypervisor = FakeHypervisor(dict.fromkeys(self.names, RUNNING))
        self.hypervisor.processes = {name: ProcessIdentity(7, 7) for name in self.names}
        self.members = [Member(name, f"uuid-{name}") for name in self.names]
        self.journal = Journal(folder, "run")
        self.swap = Swap(self.hypervisor, self.journal)
        self.swap.prepare([SwapPlan(parking(name), {}, {}) for name in self.names])
        self.kernel = kernel

    def apply(self, deadline: Deadline):
        self.swap.hand_over([parking(name) for name in self.names], self.kernel, deadline)

    def hold(self):
        with Interruption() as interruption, self.journal:
            return hold_window(
                self.members,
                UpdateCalls(self.apply, lambda: None, quiesce=self.swap.quiesce),
                hypervisor=self.hypervisor,
                journal=self.journal,
                interruption=interruption,
                guard=FakeGuard(),
                limits=Limits(30.0, 2.0, 5.0),
            )

    @property
    def events(self) -> list[str]:
        return [one.event for one in read(self.journal.path).entries]

    @property
    def history(self):
        return fold(read(self.journal.path))


def test_a_kernel_that_cannot_be_started_leaves_everybody_in_place(tmp_path):
    """kexec was refused: that is written, and both guests run again, each with its own RAM."""
    bench = Bench(tmp_path, Kernel(UpdateFailed("kexec was refused: Operation not permitted")))
    window = bench.hold()
    assert "kexec was refused" in str(window.update_error)
    assert bench.hypervisor.states == {"a": RUNNING, "b": RUNNING}
    assert (bench.history.held, bench.history.left) == ((), None)
    assert bench.events.index("leaving") < bench.events.index("stayed")
    assert not window.stuck


def test_everything_is_on_the_disks_before_this_kernel_is_left(tmp_path):
    """Each guest parked and handed over, then the disks synced, then `leaving`: the last line."""
    bench = Bench(tmp_path, Kernel(Left()))
    deadline = Deadline.after(5)
    with bench.journal:
        bench.journal.intend(entries.Pausing(tuple(bench.members)))
        for name in bench.names:
            bench.hypervisor.pause(f"uuid-{name}", deadline)
        with pytest.raises(Left):
            bench.apply(deadline)
    assert bench.kernel.did == ["sync", "start"]
    events = bench.events
    assert events[-3:] == ["handing over", "handing over", "leaving"]
    assert max(n for n, event in enumerate(events) if event == "parked") < len(events) - 3
    assert bench.history.left is not None
    assert [one.name for one in bench.history.held] == ["a", "b"]
    assert bench.hypervisor.parking.berths == {"a": Berth.PARKED, "b": Berth.PARKED}


def test_a_guest_that_cannot_be_parked_keeps_this_kernel(tmp_path):
    """Nothing is handed over, and nothing started: half of the guests would be lost."""
    bench = Bench(tmp_path, Kernel(None))

    def refuse() -> None:
        raise HypervisorError("migration is blocked", operation="parking")

    bench.hypervisor.before["park", "b"] = refuse
    window = bench.hold()
    assert "b: could not be parked" in str(window.update_error)
    assert bench.kernel.did == []
    assert {"handing over", "leaving"}.isdisjoint(bench.events)
    assert bench.hypervisor.states == {"a": RUNNING, "b": RUNNING}


def test_once_the_resume_has_begun_this_kernel_is_not_left_any_more(tmp_path):
    """The update was given up while disks were synced: a guest that runs must not end with it."""
    kernel = Kernel(None)
    bench = Bench(tmp_path, kernel)
    kernel.closing = bench.swap
    window = bench.hold()
    assert "abandoned" in str(window.update_error)
    assert kernel.did == ["sync"]
    assert bench.events.count("stayed") == 1
    assert bench.hypervisor.states == {"a": RUNNING, "b": RUNNING}


def test_a_run_that_is_late_does_not_leave(tmp_path):
    """What is left of the budget is the next kernel's."""
    bench = Bench(tmp_path, Kernel(None))
    with bench.journal:
        with pytest.raises(UpdateFailed, match="2 of 2 guests"):
            bench.apply(Deadline.after(0))
    assert "parking" not in bench.events


def test_a_run_that_was_killed_before_it_left_is_finished_in_place(tmp_path):
    """By its guardian, from every line of the way: nobody waits for a kernel that never comes."""
    ways = ("parking", "parked", "handing over")
    for number, last in enumerate(ways):
        folder = tmp_path / last
        folder.mkdir()
        hypervisor = FakeHypervisor({"a": GuestState.GONE})
        hypervisor.parking.berths["a"] = Berth.PARKED
        with Journal(folder, "run") as journal:
            Swap(hypervisor, journal).prepare([SwapPlan(parking("a"), {}, {})])
            journal.note(entries.Pausing((Member("a", "uuid-a"),)))
            about = (entries.Parking, entries.Parked, entries.HandingOver)
            for kind in about[: number + 1]:
                journal.note(kind("a", "uuid-a"))
            assert [one.name for one in fold(journal.read()).held] == ["a"]
            answers = resume_all(
                [Member("a", "uuid-a")],
                hypervisor,
                journal,
                by="guardian",
                since_ns=0,
                deadline=Deadline.after(10),
            )
            assert answers["a"].error is None
            assert fold(journal.read()).held == ()
        assert hypervisor.states["a"] is RUNNING
