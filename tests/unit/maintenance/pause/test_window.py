"""The critical section: whatever happens in it, every guest of ours runs again afterwards."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from harness.core import fanout
from harness.core.errors import (
    ConnectionLost,
    DeadlineExpired,
    GuardianLost,
    InfrastructureError,
    Interrupted,
    JournalError,
    ResumeFailed,
    TakenOver,
    UpdateFailed,
    UpdateOverran,
    WrongState,
)
from harness.core.signals import Interruption
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.host.lifecycle import GuestState
from harness.host.protocol import ProcessIdentity
from harness.maintenance.pause import ending, resume
from harness.maintenance.pause.terms import Edges, Limits, UpdateCalls
from harness.maintenance.pause.window import hold_window, resume_late
from harness.results.journal import Journal, Member, entries, fold, read
from harness.testing.clock import FakeClock
from harness.testing.guard import FakeGuard
from harness.testing.hypervisor import FakeHypervisor, pause_failure
from harness.updates.protocol import Applied

RUNNING, PAUSED = GuestState.RUNNING, GuestState.PAUSED


class Bench:
    """A hypervisor, a journal and an update that a test can bend."""

    def __init__(self, folder, *names: str, clock=SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.hypervisor = FakeHypervisor(dict.fromkeys(names, RUNNING), clock)
        self.members = [Member(name, f"uuid-{name}") for name in names]
        self.journal = Journal(folder, "run", clock)
        self.folder = folder
        self.guard = FakeGuard()
        self.abandoned = threading.Event()
        self.apply = lambda deadline: Applied(0)
        self.patience_s = 60.0
        self.edges = Edges()

    def hold(self, budget_s: float = 30.0, reserve_s: float = 2.0):
        with Interruption() as self.interruption, self.journal:
            return hold_window(
                self.members,
                UpdateCalls(lambda deadline: self.apply(deadline), self.abandoned.set, "mark"),
                hypervisor=self.hypervisor,
                journal=self.journal,
                interruption=self.interruption,
                guard=self.guard,
                limits=Limits(budget_s, reserve_s, self.patience_s, self.clock),
                edges=self.edges,
            )

    def late(self, window):
        """What becomes of ``window`` when those that could not be resumed are tried once more."""
        with Journal(self.folder, "run", self.clock) as journal:
            return resume_late(
                self.members,
                window,
                hypervisor=self.hypervisor,
                journal=journal,
                guard=self.guard,
                deadline=Deadline.after(5, self.clock),
            )

    def calls(self, operation: str) -> list[str]:
        return sorted(name for what, name in self.hypervisor.calls if what == operation)

    @property
    def states(self):
        return self.hypervisor.states


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "_SETTLED_S", 0.05)  # fakes have no pauses on their way
    return Bench(tmp_path, "a", "b")


def test_all_are_paused_then_updated_then_resumed(bench):
    """The order of things, and the figures that come of it."""
    seen = {}
    bench.apply = lambda deadline: seen.update(bench.states) or Applied(0)
    window = bench.hold()
    assert seen == {"a": PAUSED, "b": PAUSED}
    assert bench.states == {"a": RUNNING, "b": RUNNING}
    assert window.applied == Applied(0)
    assert 0 < window.update_s <= window.duration_s
    for pause in window.guests.values():
        assert 0 <= pause.inner_s <= pause.outer_s <= window.duration_s
    events = [line.event for line in read(bench.folder / "journal.jsonl").lines]
    assert events == ["pausing", "armed", "paused", "paused", "resuming", "resumed", "resumed"]


def test_the_edges_lie_within_the_pause(bench):
    """Told after a guest was paused, and before it is resumed: of each guest by itself."""
    seen = []

    def told(edge):
        return lambda member: seen.append((edge, member.name, bench.states[member.name]))

    bench.edges = Edges(told("paused"), told("resuming"))
    bench.hold()
    assert sorted(seen) == sorted(
        (edge, name, PAUSED) for edge in ("paused", "resuming") for name in "ab"
    )


@pytest.mark.parametrize("edge", ["paused", "resuming"])
def test_nothing_that_is_told_at_an_edge_keeps_a_guest_from_its_resume(bench, edge):
    """Not even a bug in an observer, and the update goes on."""

    def bug(member):
        raise ZeroDivisionError("a bug")

    bench.edges = Edges(**{edge: bug})
    window = bench.hold()
    assert bench.states == {"a": RUNNING, "b": RUNNING}
    assert window.applied == Applied(0)
    assert not window.stuck


def test_the_intent_is_on_disk_before_the_first_pause(bench):
    """Whoever comes after a crash finds who was about to be paused, and in which process."""
    found: list[entries.Entry] = []
    bench.hypervisor.before["pause", "a"] = lambda: found.extend(
        read(bench.folder / "journal.jsonl").entries
    )
    bench.hold()
    lives = tuple(entries.Life(member.uuid, 1, 1) for member in bench.members)
    assert found[0] == entries.Pausing(tuple(bench.members), lives)


def test_no_journal_no_pause(bench, monkeypatch):
    """A full disk ends it before anything is paused."""
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    with pytest.raises(JournalError):
        bench.hold()
    assert bench.calls("pause") == []


def test_a_disk_that_fills_up_while_guests_are_paused_holds_nothing_up(bench, monkeypatch):
    """Notes are lost, guests are not."""

    def fill_up(deadline):
        monkeypatch.setattr(os, "write", lambda fd, data: 0)
        return Applied(0)

    bench.apply = fill_up
    bench.hold()
    assert bench.states == {"a": RUNNING, "b": RUNNING}
    assert bench.journal.lost


def test_an_update_that_fails_does_not_keep_guests_paused(bench):
    """The error is part of the result."""

    def fail(deadline):
        raise UpdateFailed("no", returncode=3)

    bench.apply = fail
    window = bench.hold()
    assert isinstance(window.update_error, UpdateFailed)
    assert bench.states == {"a": RUNNING, "b": RUNNING}


def test_an_update_that_overruns_is_abandoned_and_not_waited_for(bench):
    """It is still running when the guests are."""
    release = threading.Event()
    until: list[Deadline] = []

    def hang(deadline):
        until.append(deadline)
        release.wait(30)

    bench.apply = hang
    window = bench.hold(budget_s=0.5, reserve_s=0.3)
    assert isinstance(window.update_error, UpdateOverran)
    assert bench.abandoned.is_set()
    assert bench.states == {"a": RUNNING, "b": RUNNING}
    assert until[0].at_ns <= window.t1_ns, "it was given all of its time"
    assert window.duration_s < 10
    release.set()


def test_the_update_is_given_the_budget_less_the_reserve(bench):
    """The deadline handed down leaves time for resuming."""
    limits = []
    bench.apply = lambda deadline: limits.append(deadline.limit_s)
    bench.hold(budget_s=30.0, reserve_s=2.0)
    assert limits == [28.0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_abandons_the_update_and_resumes_the_guests(bench, number):
    """Repeated signals change nothing."""
    release, sent = threading.Event(), threading.Event()

    def interrupt(deadline):
        for _ in range(3):
            os.kill(os.getpid(), number)
        sent.set()
        release.wait(30)

    bench.apply = interrupt
    bench.hypervisor.before["resume", "a"] = lambda: sent.wait(30)  # else they might come too late
    window = bench.hold()
    assert isinstance(window.update_error, Interrupted)
    assert window.update_error.signal_name == number.name
    assert bench.states == {"a": RUNNING, "b": RUNNING}
    release.set()


@pytest.mark.parametrize("how", ["it hangs", "it says so itself"])
def test_an_update_is_ended_only_when_the_guests_run(bench, how):
    """It may have restarted the libvirtd that resumes them."""

    def apply(deadline):
        if how == "it hangs":
            bench.abandoned.wait(30)
            return Applied(0)
        threading.Event().wait(deadline.remaining_s())
        raise UpdateOverran("it took too long")

    bench.apply = apply
    early = []
    for name in ("a", "b"):
        bench.hypervisor.before["resume", name] = lambda: early.append(bench.abandoned.wait(0.1))
    window = bench.hold(budget_s=0.4, reserve_s=0.2)
    assert isinstance(window.update_error, UpdateOverran)
    assert early == [False, False]
    assert bench.abandoned.is_set()


def test_an_update_that_keeps_guests_from_being_resumed_is_ended_all_the_same(bench, monkeypatch):
    """Resuming comes first, but not for ever."""
    monkeypatch.setattr(ending, "RESUME_FIRST_S", 0.2)

    def fail_until_abandoned():
        if not bench.abandoned.is_set():
            raise ConnectionLost("libvirtd is stopped", operation="resuming")

    bench.apply = lambda deadline: bench.abandoned.wait(30)
    bench.hypervisor.before["resume", "a"] = fail_until_abandoned
    bench.hold(budget_s=0.4, reserve_s=0.2)
    assert bench.states == {"a": RUNNING, "b": RUNNING}


def test_a_good_update_is_not_abandoned(bench):
    """What it left running belongs to the host."""
    bench.hold()
    assert not bench.abandoned.is_set()


@pytest.mark.parametrize("journalled", [True, False])
def test_what_was_resumed_before_it_was_armed_takes_nobody_over(bench, monkeypatch, journalled):
    """An earlier maintenance, or a backup: only what came since we were armed counts.

    Also where the disk is full by then, so that the journal does not say when we paused it.
    """
    bench.hypervisor.pause("uuid-a", Deadline.after(1))
    bench.hypervisor.resume("uuid-a", Deadline.after(1))
    if not journalled:
        bench.hypervisor.before["pause", "a"] = lambda: monkeypatch.setattr(
            os, "write", lambda fd, data: 0
        )
    window = bench.hold()
    assert bool(bench.journal.lost) is not journalled
    assert window.guests["a"].resume_error is None
    assert bench.states == {"a": RUNNING, "b": RUNNING}


def test_threads_are_there_before_the_first_pause(bench, monkeypatch):
    """For every guest at once, with some to spare for calls that hang."""
    monkeypatch.setattr(fanout, "_idle", [])
    before = []
    bench.hypervisor.before["pause", "a"] = lambda: before.append(len(fanout._idle))
    bench.hold()
    assert before[0] >= 4 * 2 - 2  # those that pause


def test_without_a_thread_to_end_the_update_nobody_is_paused(bench, monkeypatch):
    """Everything that can fail, fails before the first pause."""
    monkeypatch.setattr(fanout, "_idle", [])

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(InfrastructureError, match="nothing was paused"):
        bench.hold()
    assert bench.calls("pause") == []


def test_a_signal_before_the_first_pause_pauses_nobody(bench):
    """Where nothing is paused yet, stopping is simple."""
    real = Interruption.check

    def asked(interruption):
        interruption.request("SIGINT")
        real(interruption)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Interruption, "check", asked)
        with pytest.raises(Interrupted):
            bench.hold()
    assert bench.calls("pause") == []


def test_a_guest_paused_by_somebody_else_is_never_resumed_by_us(bench):
    """It was paused between preflight and window; the update does not run."""
    bench.states["b"] = PAUSED
    ran = []
    bench.apply = lambda deadline: ran.append(1)
    window = bench.hold()
    assert bench.states == {"a": RUNNING, "b": PAUSED}
    assert bench.calls("resume") == ["a"]
    assert isinstance(window.guests["b"].pause_error, WrongState)
    assert not ran


def test_if_one_cannot_be_paused_the_update_does_not_run_and_the_others_resume(bench):
    """A guest that never paused must not be measured as if it had."""
    ran = []
    bench.apply = lambda deadline: ran.append(1)
    bench.hypervisor.before["pause", "b"] = pause_failure("b")
    window = bench.hold()
    assert not ran
    assert window.applied is None
    assert bench.states == {"a": RUNNING, "b": RUNNING}


def test_a_guest_whose_pause_gave_no_clear_answer_is_resumed(bench):
    """The connection broke after the pause had been carried out."""

    def pause_and_lose_the_answer():
        bench.states["b"] = PAUSED
        raise ConnectionLost("gone", operation="pausing", guest="b")

    bench.hypervisor.before["pause", "b"] = pause_and_lose_the_answer
    bench.hold()
    assert bench.states == {"a": RUNNING, "b": RUNNING}


def test_resume_is_tried_again_until_it_succeeds(bench):
    """libvirtd comes back after a while."""
    failures = iter([ConnectionLost("gone", operation="resuming")] * 3)

    def fail_three_times():
        for error in failures:
            raise error

    bench.hypervisor.before["resume", "a"] = fail_three_times
    window = bench.hold()
    assert bench.states == {"a": RUNNING, "b": RUNNING}
    assert window.guests["a"].resume_error is None


def test_a_guest_that_died_does_not_keep_the_others_paused(bench):
    """Dead is dead, at once, and says so."""
    bench.apply = lambda deadline: bench.states.update(a=GuestState.SHUT_OFF)
    window = bench.hold()
    assert isinstance(window.guests["a"].resume_error, WrongState)
    assert window.guests["a"].outer_s is None
    assert bench.states["b"] is RUNNING


def test_a_guest_that_cannot_be_resumed_is_given_up_only_after_patience(bench, monkeypatch):
    """The other one is not held up, and the error says what the last answer was."""
    bench.patience_s = 0.3

    def refuse():
        raise ResumeFailed("is paused after resuming", operation="resuming", guest="a")

    bench.hypervisor.before["resume", "a"] = refuse
    window = bench.hold()
    assert isinstance(window.guests["a"].resume_error, DeadlineExpired)
    assert bench.states == {"a": PAUSED, "b": RUNNING}
    assert "disarm" not in bench.guard.calls  # the guardian goes on trying
    bench.states["a"] = RUNNING


def test_who_could_not_be_resumed_is_resumed_late(bench):
    """What kept it from that has been done away with; the window tells of it as of the others."""
    bench.patience_s = 0.2
    resume = bench.hypervisor.resume

    def resume_if_late(uuid, deadline):
        if deadline.limit_s <= bench.patience_s:  # a call that was given up may be under way still
            raise ConnectionLost("gone", operation="resuming")
        return resume(uuid, deadline)

    bench.hypervisor.resume = resume_if_late
    window = bench.hold()
    assert window.guests["a"].stuck
    assert window.guests["b"].stuck
    late = bench.late(window)
    assert bench.guard.calls[-1] == "disarm"
    assert bench.states == {"a": RUNNING, "b": RUNNING}
    assert not fold(read(bench.journal.path)).held
    for pause in late.guests.values():
        assert not pause.stuck
        assert 0.2 < pause.inner_s <= pause.outer_s <= late.duration_s
    assert window.guests["a"].stuck, "an earlier result stays what it was"


def test_a_resume_of_ours_that_was_given_up_and_worked_takes_nobody_over(bench):
    """Its answer was lost, and it was paused again by the call before it: it is still ours."""
    bench.patience_s = 0.2
    resume = bench.hypervisor.resume
    lost = [True]

    def resume_and_lose_the_answer(uuid, deadline):
        call = resume(uuid, deadline)
        if lost[0]:
            bench.hypervisor.pause(uuid, deadline)
            raise ConnectionLost("gone", operation="resuming")
        return call

    bench.hypervisor.resume = resume_and_lose_the_answer
    window = bench.hold()
    assert window.guests["a"].stuck
    assert window.guests["b"].stuck
    lost[0] = False
    late = bench.late(window)
    assert {guest.resume_error for guest in late.guests.values()} == {None}
    assert bench.states == {"a": RUNNING, "b": RUNNING}


@pytest.mark.parametrize(("b_too", "none_resumed"), [(False, True), (True, False)])
def test_a_guest_that_has_ended_is_not_waited_for(bench, b_too, none_resumed):
    """One that is dead and one that is stuck: nobody runs. Both dead: nobody is paused either."""
    bench.patience_s = 0.2

    def end(name):
        bench.states[name] = GuestState.SHUT_OFF

    def refuse():
        raise ConnectionLost("gone", operation="resuming")

    bench.hypervisor.before["resume", "a"] = lambda: end("a")
    bench.hypervisor.before["resume", "b"] = (lambda: end("b")) if b_too else refuse
    window = bench.hold()
    assert not window.guests["a"].stuck
    assert window.none_resumed is window.stuck is none_resumed
    assert ("disarm" in bench.guard.calls) is not none_resumed


def test_a_bug_in_the_update_resumes_everybody_and_is_not_hidden(bench):
    """An exception that is not ours is an error of the update, which names its class."""
    bench.apply = lambda deadline: 1 / 0
    error = bench.hold().update_error
    assert isinstance(error, UpdateFailed)
    assert "the update raised ZeroDivisionError: division by zero" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError), "where it is, the log must tell"
    assert bench.states == {"a": RUNNING, "b": RUNNING}


def test_deadlines_count_from_the_first_pause(bench):
    """A slow pause leaves less for the update, never a longer window."""
    seen = []
    bench.hypervisor.before["pause", "a"] = lambda: threading.Event().wait(0.2)

    def apply(deadline: Deadline):
        seen.append(deadline.remaining_s())

    bench.apply = apply
    bench.hold(budget_s=1.0, reserve_s=0.1)
    assert seen[0] <= 0.7


@pytest.mark.parametrize("full_from", range(12))
def test_a_disk_that_is_full_from_any_write_on_strands_nobody(bench, monkeypatch, full_from):
    """Either nothing is paused, or everybody runs again."""
    written = []
    really = os.write

    def write(fd, data):
        written.append(data)
        return really(fd, data) if len(written) <= full_from else 0

    monkeypatch.setattr(os, "write", write)
    try:
        bench.hold()
    except JournalError:
        assert bench.calls("pause") == []
    assert bench.states == {"a": RUNNING, "b": RUNNING}


def test_without_a_guardian_nobody_is_paused(bench):
    """It must answer first; and the journal says that these guests never became ours."""
    bench.guard.silent = True
    with pytest.raises(GuardianLost, match="nothing was paused"):
        bench.hold()
    assert bench.calls("pause") == []
    assert fold(read(bench.folder / "journal.jsonl")).held == ()


def test_the_guardian_is_armed_before_the_first_pause_and_disarmed_after_the_last_resume(bench):
    """Its limit lies half-way between when we resume and the end of the budget."""
    during = []
    bench.hypervisor.before["pause", "a"] = lambda: during.extend(bench.guard.calls)
    bench.hypervisor.before["resume", "a"] = lambda: during.extend(bench.guard.calls)
    bench.hold(budget_s=30, reserve_s=2)
    assert during == ["arm 29 mark"] * 2
    assert bench.guard.calls == ["arm 29 mark", "disarm"]


def test_when_the_guardian_dies_the_guests_are_resumed_at_once(bench):
    """The update is abandoned: nobody would resume them if we died too."""

    def die(deadline):
        bench.guard.die()
        bench.abandoned.wait(10)
        return Applied(0)

    bench.apply = die
    window = bench.hold()
    assert isinstance(window.update_error, GuardianLost)
    assert bench.states == {"a": RUNNING, "b": RUNNING}


def test_a_guest_that_somebody_else_resumed_and_paused_again_is_theirs(bench):
    """It is left paused; the other one is resumed."""

    def meddle(deadline):
        bench.hypervisor.resume("uuid-a", Deadline.after(1))
        bench.hypervisor.pause("uuid-a", Deadline.after(1))
        return Applied(0)

    bench.apply = meddle
    window = bench.hold()
    assert isinstance(window.guests["a"].resume_error, TakenOver)
    assert window.guests["b"].resume_error is None
    assert bench.states == {"a": PAUSED, "b": RUNNING}
    assert fold(read(bench.folder / "journal.jsonl")).held == ()


def test_who_resumed_our_guest_before_we_paused_it_has_not_taken_it_over(bench):
    """A backup's snapshot, between the guardian's answer and our call."""

    def meddle():
        del bench.hypervisor.before["pause", "a"]
        bench.hypervisor.pause("uuid-a", Deadline.after(1))
        bench.hypervisor.resume("uuid-a", Deadline.after(1))

    bench.hypervisor.before["pause", "a"] = meddle
    window = bench.hold()
    assert window.guests["a"].resume_error is None
    assert bench.states == {"a": RUNNING, "b": RUNNING}


@pytest.mark.parametrize(("used_ns", "theirs"), [(0, False), (10_000_000, True)])
def test_late_events_are_judged_by_the_vcpus_time(bench, used_ns, theirs):
    """Both say: paused, resumed, paused. Whether it ran since our pause, the vCPUs tell."""
    bench.hypervisor.processes["b"] = ProcessIdentity(2, 2)
    bench.hypervisor.vcpu_ns = {1: 0, 2: 0}

    def meddle(deadline):
        bench.hypervisor.resume("uuid-a", Deadline.after(1))
        bench.hypervisor.pause("uuid-a", Deadline.after(1))
        bench.hypervisor.vcpu_ns = {1: used_ns, 2: 0}
        return Applied(0)

    bench.apply = meddle
    window = bench.hold()
    assert isinstance(window.guests["a"].resume_error, TakenOver) is theirs
    assert bench.states == {"a": PAUSED if theirs else RUNNING, "b": RUNNING}


def test_a_guest_that_was_started_again_and_paused_is_its_owners(bench):
    """The same name and UUID, another process."""

    def meddle(deadline):
        bench.hypervisor.processes["a"] = ProcessIdentity(2, 2)
        return Applied(0)

    bench.apply = meddle
    window = bench.hold()
    assert isinstance(window.guests["a"].resume_error, TakenOver)
    assert "started again" in str(window.guests["a"].resume_error)
    assert bench.states == {"a": PAUSED, "b": RUNNING}


def test_a_step_of_the_hosts_clock_does_not_change_a_pause(tmp_path):
    """Durations are measured on the monotonic clock."""
    clock = FakeClock()
    bench = Bench(tmp_path, "a", clock=clock)

    def update(deadline):
        clock.advance(3.0)
        clock.step_realtime(-3600.0)
        return Applied(0)

    bench.apply = update
    window = bench.hold()
    assert window.duration_s == pytest.approx(3.0)
    assert window.update_s == pytest.approx(3.0)
