"""What the window writes down of each guest, and what it says of those that others resumed."""

from __future__ import annotations

import threading

import pytest

from harness.core.errors import ConnectionLost, GuardianLost
from harness.core.timebase import Deadline
from harness.host.protocol import ProcessIdentity
from harness.maintenance.pause import resume
from harness.maintenance.pause.ending import Ending
from harness.maintenance.pause.scribe import Scribe
from harness.results.journal import Journal, entries, read
from harness.testing.clock import FakeClock
from harness.updates.protocol import Applied
from tests.unit.maintenance.pause.test_window import PAUSED, RUNNING, Bench

QEMU = ProcessIdentity(7, 70)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """On a host that was suspended before, so that its clocks differ."""
    monkeypatch.setattr(resume, "_SETTLED_S", 0.05)
    clock = FakeClock()
    clock.suspend(100)
    return Bench(tmp_path, "a", "b", clock=clock)


def told(bench, kind):
    found = read(bench.folder / "journal.jsonl").entries
    return [entry for entry in found if isinstance(entry, kind)]


def test_whose_pause_it_is_can_be_told_from_the_journal(bench):
    """Before the pause and after it: QEMU's process, and the CPU time of its vCPUs."""
    bench.hypervisor.processes["a"] = QEMU
    bench.hypervisor.processes["b"] = None
    bench.hypervisor.vcpu_ns = {7: 42}
    began_ns = bench.clock.boottime_ns()
    bench.hold()
    (pausing,) = told(bench, entries.Pausing)
    assert pausing.lives == (entries.Life("uuid-a", 7, 70, 42),)
    assert {entry.guest: entry for entry in told(bench, entries.Paused)} == {
        "a": entries.Paused("a", "uuid-a", began_ns, 7, 70, 42),
        "b": entries.Paused("b", "uuid-b", began_ns),
    }


def test_it_is_the_run_that_resumes(bench):
    """In the journal, by which guardian and run tell each other's doing from a stranger's."""
    bench.hold()
    assert told(bench, entries.Resuming) == [entries.Resuming("run", tuple(bench.members))]
    assert {entry.by for entry in told(bench, entries.Resumed)} == {"run"}


def test_a_guest_that_never_became_ours_is_in_the_journal_with_the_reason(bench):
    """So that no recovery sets about resuming it."""
    bench.states["b"] = PAUSED
    error = bench.hold().guests["b"].pause_error
    assert told(bench, entries.Refused) == [entries.Refused("b", "uuid-b", error.message)]


def test_without_a_guardian_no_guest_became_ours(bench):
    """Each is said to be refused."""
    bench.guard.silent = True
    with pytest.raises(GuardianLost):
        bench.hold()
    assert told(bench, entries.Refused) == [
        entries.Refused(member.name, member.uuid, "no guardian") for member in bench.members
    ]


def test_what_the_guardian_resumed_meanwhile_ran_from_then_on(bench):
    """The run was stopped, say; its guardian's resume is no stranger's, and ends the pause."""
    at_ns = []

    def rescued(deadline):
        bench.clock.advance(1)
        bench.journal.note(entries.Resuming("guardian", (bench.members[0],)))
        bench.hypervisor.resume("uuid-a", Deadline.after(1))
        bench.journal.note(entries.Resumed("a", "uuid-a", "guardian"))
        at_ns.append(bench.clock.monotonic_ns())
        bench.clock.advance(2)
        return Applied(0)

    bench.apply = rescued
    window = bench.hold()
    assert window.rescued
    assert window.guests["a"].resume_error is None
    assert window.guests["a"].resume_returned_ns == at_ns[0]
    assert window.guests["b"].resume_returned_ns > at_ns[0]


def test_a_guest_that_the_guardian_resumed_and_somebody_paused_is_left_to_the_guardian(bench):
    """It was resumed by one of ours: the run is not told that a stranger has taken it over."""

    def rescued(deadline):
        bench.journal.note(entries.Resuming("guardian", (bench.members[0],)))
        bench.hypervisor.resume("uuid-a", Deadline.after(1))
        bench.hypervisor.pause("uuid-a", Deadline.after(1))
        return Applied(0)

    bench.apply = rescued
    assert bench.hold().guests["a"].resume_error is None
    assert not told(bench, entries.TakenOver)


def test_what_the_guardian_resumed_while_the_run_could_not_is_told_of(bench):
    """The run tries once more, late: what it finds running has run since its guardian's resume."""
    bench.patience_s = 0.2
    bench.members = bench.members[:1]  # time passes for all while one of them is tried again

    def refuse():
        raise ConnectionLost("gone", operation="resuming")

    bench.hypervisor.before["resume", "a"] = refuse
    window = bench.hold()
    assert window.guests["a"].stuck
    bench.hypervisor.before.clear()
    with Journal(bench.folder, "run", bench.clock) as journal:
        journal.note(entries.Resuming("guardian", (bench.members[0],)))
        bench.hypervisor.resume("uuid-a", Deadline.after(1))
        journal.note(entries.Resumed("a", "uuid-a", "guardian"))
        at_ns = bench.clock.monotonic_ns()
    bench.clock.advance(2)
    late = bench.late(window)
    assert late.rescued
    assert late.guests["a"].resume_error is None
    assert late.guests["a"].resume_returned_ns == at_ns
    assert late.t1_ns == max(window.t1_ns, at_ns)
    assert told(bench, entries.Resuming)[-1].by == "run"


def test_what_a_guardian_resumed_in_an_earlier_window_is_no_rescue_in_this_one(bench):
    """A run has several windows, and one journal."""
    bench.journal.note(entries.Resumed("a", "uuid-a", "guardian"))
    bench.clock.advance(5)
    window = bench.hold()
    assert not window.rescued
    assert window.guests["a"].resume_returned_ns >= window.t0_ns
    assert bench.states == {"a": RUNNING, "b": RUNNING}


def test_no_thread_keeps_a_process_that_wants_to_end(tmp_path):
    """A call that hangs in one of them, on a dead file system, would."""
    before = set(threading.enumerate())
    ending = Ending(lambda: None)
    with Journal(tmp_path, "run") as journal:
        Scribe(journal)
    begun = set(threading.enumerate()) - before
    assert {thread.name for thread in begun} == {"update ending", "journal"}
    assert all(thread.daemon for thread in begun)
    ending.free(10)
