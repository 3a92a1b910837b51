"""Resuming what may be paused, may be about to be paused, or may never have been."""

from __future__ import annotations

import threading

import pytest

from harness.core.errors import (
    ConnectionLost,
    DeadlineExpired,
    GuestSaved,
    ResumeFailed,
    WrongState,
)
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.host.lifecycle import GuestState
from harness.host.pauses_in_flight import UnderWay
from harness.host.protocol import EventKind, LifecycleEvent, ProcessIdentity
from harness.maintenance.pause.resume import resume_all
from harness.maintenance.pause.stranded import still_paused
from harness.results.journal import Custody, Journal, Member, entries, fold, read
from harness.testing.clock import FakeClock
from harness.testing.hypervisor import FakeHypervisor

RUNNING, PAUSED = GuestState.RUNNING, GuestState.PAUSED


def resume(folder, hypervisor, clock, patience_s=60):
    with Journal(folder, "run", clock) as journal:
        answers = resume_all(
            [Member("a", "uuid-a")],
            hypervisor,
            journal,
            by="guardian",
            since_ns=clock.monotonic_ns(),
            deadline=Deadline.after(patience_s, clock),
        )
    return answers["a"].get()


def test_a_paused_guest_is_resumed_by_one_call(tmp_path):
    """What is known of it is when that call began and returned."""
    hypervisor = FakeHypervisor({"a": PAUSED})
    resumed = resume(tmp_path, hypervisor, SYSTEM_CLOCK)
    assert resumed.paused_until_ns <= resumed.running_since_ns
    assert hypervisor.calls == [("resume", "a")]


def test_a_guest_that_has_ended_is_journalled_as_such(tmp_path):
    """Else it is held for ever: every later recovery would set about resuming it."""
    members = [Member("a", "uuid-a")]
    hypervisor = FakeHypervisor({"a": GuestState.SHUT_OFF})
    with Journal(tmp_path, "run") as journal:
        journal.note(entries.Pausing(tuple(members)))
        until = Deadline.after(5)
        answers = resume_all(members, hypervisor, journal, by="run", since_ns=0, deadline=until)
        assert isinstance(answers["a"].error, WrongState)
        reading = read(journal.path)
        assert fold(reading).held == ()
    (entry,) = [e for e in reading.entries if isinstance(e, entries.Ended)]
    assert (entry.guest, entry.uuid) == ("a", "uuid-a")
    assert "shut off" in entry.state


def test_a_pause_that_comes_after_its_resume_is_resumed_too(tmp_path):
    """The run died with a pause on its way: its guardian finds a guest that runs, for now."""
    clock = FakeClock()
    hypervisor = FakeHypervisor({"a": RUNNING}, clock)
    pauses = iter([None, None, PAUSED])
    hypervisor.before["resume", "a"] = lambda: hypervisor.states.update(
        a=next(pauses, None) or hypervisor.states["a"]
    )
    assert resume(tmp_path, hypervisor, clock).paused_until_ns is not None
    assert hypervisor.states == {"a": RUNNING}


def test_a_guest_that_goes_on_running_is_believed_after_a_while(tmp_path):
    """Its pause never came; the while is no part of a pause."""
    clock = FakeClock()
    began_ns = clock.monotonic_ns()
    resumed = resume(tmp_path, FakeHypervisor({"a": RUNNING}, clock), clock)
    assert resumed.paused_until_ns is None
    assert resumed.running_since_ns == began_ns
    assert clock.monotonic_ns() - began_ns >= 1_000_000_000


@pytest.mark.parametrize("patience_s", [0.1, 1.0])
def test_little_patience_does_not_call_a_running_guest_paused(tmp_path, patience_s):
    """It has been seen to run, and nothing else."""
    clock = FakeClock()
    resumed = resume(tmp_path, FakeHypervisor({"a": RUNNING}, clock), clock, patience_s)
    assert resumed.paused_until_ns is None


QEMU = ProcessIdentity(7, 70)


def paused_by_us(journal):
    """The journal of a run that has paused guest a, whose process is QEMU."""
    journal.note(entries.Pausing((Member("a", "uuid-a"),)))
    journal.note(entries.Paused("a", "uuid-a", qemu_pid=QEMU.pid, qemu_start_ticks=70))


@pytest.mark.parametrize("lives", [True, False])
def test_a_guest_that_libvirt_does_not_know_has_ended_only_if_its_process_has(tmp_path, lives):
    """libvirtd was restarted without the guest's status: it is held, and said to be paused."""
    clock = FakeClock()
    hypervisor = FakeHypervisor({}, clock)
    hypervisor.processes["a"] = None
    hypervisor.living = {QEMU} if lives else set()
    with Journal(tmp_path, "run", clock) as journal:
        paused_by_us(journal)
        members, until = [Member("a", "uuid-a")], Deadline.after(60, clock)
        answers = resume_all(
            members, hypervisor, journal, by="run", since_ns=clock.monotonic_ns(), deadline=until
        )
        assert bool(fold(journal.read()).held) is lives
        found = still_paused(members, hypervisor, until, if_silent=True, journal=journal)
        assert found == (("a",) if lives else ())
    error = answers["a"].error
    assert isinstance(error, ResumeFailed if lives else WrongState)
    if lives:
        assert error.guest == "a"
        assert error.hint == "harness recover says how to resume it by QEMU's monitor"
        assert "its QEMU process 7 lives" in str(error)
        assert until.remaining_s() > 45  # the other guests' clocks do not wait for it


@pytest.mark.parametrize("how", ["libvirt has it on disk", "an event told so"])
def test_a_guest_that_was_saved_while_we_held_it_is_held(tmp_path, how):
    """virsh managedsave; or virsh save of a guest that libvirt then forgets."""
    clock = FakeClock()
    hypervisor = FakeHypervisor({"a": PAUSED}, clock)
    since_ns = clock.monotonic_ns()
    if how == "an event told so":
        hypervisor._become("a", GuestState.GONE, EventKind.STOPPED)
        event = LifecycleEvent("uuid-a", EventKind.STOPPED, "4", clock.monotonic_ns())
        hypervisor._events["a"][-1] = event
    else:
        hypervisor.states["a"], hypervisor.reasons["a"] = GuestState.SHUT_OFF, "saved"
    hypervisor.processes["a"] = None
    with Journal(tmp_path, "run", clock) as journal:
        paused_by_us(journal)
        members, until = [Member("a", "uuid-a")], Deadline.after(60, clock)
        answers = resume_all(
            members, hypervisor, journal, by="run", since_ns=since_ns, deadline=until
        )
        error = answers["a"].error
        assert isinstance(error, GuestSaved)
        assert error.message == "was saved to disk during the pause, and comes back paused"
        assert error.guest == "a"
        assert " start " in error.hint
        assert error.hint.endswith("; harness recover")
        assert entries.Saved("a", "uuid-a", "run") in journal.read().entries
        seen = fold(journal.read())
        assert (seen.held, seen.guests["uuid-a"].custody) == (tuple(members), Custody.SAVED)
        found = still_paused(members, hypervisor, until, if_silent=True, journal=journal)
        assert found == ("a",)


@pytest.mark.parametrize("known", [True, False])
def test_a_guest_that_was_migrated_while_we_held_it_is_held(tmp_path, known):
    """Nothing here can resume it, and nobody saw it run."""
    clock = FakeClock()
    hypervisor = FakeHypervisor({"a": PAUSED}, clock)
    hypervisor._become("a", GuestState.SHUT_OFF, EventKind.STOPPED)
    hypervisor._events["a"][-1] = LifecycleEvent("uuid-a", EventKind.STOPPED, "3", 0)
    hypervisor.reasons["a"] = "migrated"
    if not known:
        del hypervisor.states["a"]
    hypervisor.processes["a"] = None
    with Journal(tmp_path, "run", clock) as journal:
        paused_by_us(journal)
        members, until = [Member("a", "uuid-a")], Deadline.after(60, clock)
        answers = resume_all(members, hypervisor, journal, by="run", since_ns=0, deadline=until)
        with pytest.raises(ResumeFailed, match="migrated to another host"):
            answers["a"].get()
        assert fold(journal.read()).held == tuple(members)
        found = still_paused(members, hypervisor, until, if_silent=True, journal=journal)
        assert found == ("a",)


def test_a_call_under_way_is_waited_for():
    """By the guest: another guest's call is not."""
    calls, release = UnderWay(), threading.Event()

    def one():
        with calls.one("a"):
            began.set()
            release.wait(30)

    began = threading.Event()
    threading.Thread(target=one, daemon=True).start()
    began.wait(30)
    calls.wait("b", Deadline.after(0))
    with pytest.raises(DeadlineExpired, match="earlier pause"):
        calls.wait("a", Deadline.after(0.01))
    release.set()
    calls.wait("a", Deadline.after(30))


@pytest.mark.parametrize("if_silent", [True, False])
def test_who_is_still_paused_is_asked_anew(if_silent):
    """Of one that libvirt says nothing of, what was last known of it counts."""
    hypervisor = FakeHypervisor({"a": PAUSED, "b": RUNNING, "c": RUNNING})

    def silent():
        raise ConnectionLost("libvirt is gone", operation="asking")

    hypervisor.before["state", "c"] = silent
    members = [Member(name, f"uuid-{name}") for name in ("a", "b", "c", "gone")]
    found = still_paused(members, hypervisor, Deadline.after(5), if_silent=if_silent)
    assert found == (("a", "c") if if_silent else ("a",))
