"""What is done in a window, and when: between the calls that pause or resume nothing else is."""

from __future__ import annotations

import threading

import pytest

from harness.core.errors import ConnectionLost, DeadlineExpired, TakenOver
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.protocol import ProcessIdentity
from harness.maintenance.pause import looks, resume, window
from harness.maintenance.pause.parkable import parkable
from harness.maintenance.pause.terms import Edges
from harness.results.journal import entries, read
from harness.updates.protocol import Applied
from tests.unit.maintenance.pause.test_parking import parking
from tests.unit.maintenance.pause.test_window import PAUSED, RUNNING, Bench

_HANGS_S = 30.0


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "_SETTLED_S", 0.05)  # fakes have no pauses on their way
    return Bench(tmp_path, "a", "b")


def told(bench, kind):
    """Of which guests the journal says that, in order."""
    found = read(bench.folder / "journal.jsonl").entries
    return [entry.guest for entry in found if isinstance(entry, kind)]


def expect(what, condition):
    """Wait for it, for a few seconds."""

    def look():
        if not condition():
            raise NotYet(what)

    wait_for(look, what=what, deadline=Deadline.after(5), interval_s=0.005)


def test_no_guest_is_told_of_before_the_last_one_is_paused(bench):
    """Not to the journal, nor to an observer: guests that are paused would wait for it."""
    seen, observed = [], []
    bench.edges = Edges(paused=lambda member: observed.append(member.name))

    def look():
        expect("a is paused", lambda: bench.states["a"] is PAUSED)
        threading.Event().wait(0.05)  # for what might be told
        seen.append((told(bench, entries.Paused), list(observed)))

    bench.hypervisor.before["pause", "b"] = look
    bench.hold()
    assert seen == [([], [])]
    assert (told(bench, entries.Paused), observed) == (["a", "b"], ["a", "b"])


def test_one_whose_pause_takes_long_keeps_the_journal_waiting_for_a_moment_only(bench, monkeypatch):
    """Who comes after a crash finds what is known of the others."""
    monkeypatch.setattr(window, "_TOGETHER_S", 0.05)
    bench.hypervisor.before["pause", "b"] = lambda: expect(
        "a is told of", lambda: told(bench, entries.Paused) == ["a"]
    )
    assert bench.hold().update_error is None
    assert told(bench, entries.Paused) == ["a", "b"]


def test_a_guest_that_is_not_ours_is_told_of_at_once(bench):
    """Who comes after a crash must not resume it, whatever the others do."""
    bench.states["b"] = PAUSED
    bench.hypervisor.before["pause", "a"] = lambda: expect(
        "b is told of", lambda: told(bench, entries.Refused) == ["b"]
    )
    bench.hold()
    assert bench.states == {"a": RUNNING, "b": PAUSED}


def test_the_update_does_not_wait_for_what_is_told(bench):
    """It begins when all are paused; what is told of them is told meanwhile."""
    begun = threading.Event()
    waited = []

    def wait(member):
        waited.append(begun.wait(_HANGS_S))

    bench.edges = Edges(paused=wait)
    bench.apply = lambda deadline: begun.set() or Applied(0)
    bench.hold()
    assert waited == [True, True]


def test_an_observer_that_hangs_keeps_no_guest_from_its_resume(bench, monkeypatch):
    """And is told nothing more when it comes back: the guests run by then."""
    monkeypatch.setattr(window, "_TELLING_S", 0.1)
    over, observed = threading.Event(), []

    def hang(member):
        observed.append(member.name)
        over.wait(_HANGS_S)

    bench.edges = Edges(paused=hang)
    found = bench.hold()
    assert bench.states == {"a": RUNNING, "b": RUNNING}
    assert found.duration_s < _HANGS_S / 2
    over.set()
    threading.Event().wait(0.05)
    assert observed == ["a"]


def test_an_update_that_parks_guests_finds_them_told_of(bench):
    """What is written of a guest's old QEMU comes before what is written of its new one."""
    bench.journal.note(parkable(parking("a"), {}, {}))
    seen = []

    def take_time(member):
        threading.Event().wait(0.05)

    bench.edges = Edges(paused=take_time)
    bench.apply = lambda deadline: seen.append(told(bench, entries.Paused)) or Applied(0)
    bench.hold()
    assert seen == [["a", "b"]]


def test_an_update_that_parks_guests_is_not_begun_before_they_are_told_of(bench):
    """An observer hangs; the guests go on, and the window says why nothing was done."""
    bench.journal.note(parkable(parking("a"), {}, {}))
    over, ran = threading.Event(), []

    def hang(member):
        over.wait(_HANGS_S)

    bench.edges = Edges(paused=hang)
    bench.apply = lambda deadline: ran.append(1) or Applied(0)
    found = bench.hold(budget_s=0.6, reserve_s=0.2)
    over.set()
    assert not ran
    assert isinstance(found.update_error, DeadlineExpired)
    assert bench.states == {"a": RUNNING, "b": RUNNING}


def test_all_are_looked_at_before_the_first_is_resumed(bench):
    """A guest that runs has the cores that the next one's look would take."""
    order = []
    bench.edges = Edges(resuming=lambda member: order.append(f"look {member.name}"))
    for name in "ab":
        bench.hypervisor.before["resume", name] = lambda: order.append("resume")
    bench.hold()
    assert order == ["look a", "look b", "resume", "resume"]


def test_an_observer_is_told_again_before_a_further_attempt(bench):
    """What it saw before the first one is old by then."""
    failures = iter([ConnectionLost("gone", operation="resuming")])
    order = []
    bench.edges = Edges(resuming=lambda member: order.append(member.name))
    bench.hypervisor.before["resume", "a"] = lambda: [_raise(error) for error in failures]
    bench.hold()
    assert order == ["a", "b", "a"]


def _raise(error):
    raise error


def test_a_look_that_hangs_keeps_no_guest_from_its_resume(bench, monkeypatch):
    """Nor does it tell anything of one that runs by then."""
    monkeypatch.setattr(looks, "_LOOKS_S", 0.1)
    over, order = threading.Event(), []

    def hang(member):
        order.append(member.name)
        if len(order) == 1:
            over.wait(_HANGS_S)

    bench.edges = Edges(resuming=hang)
    found = bench.hold()
    assert bench.states == {"a": RUNNING, "b": RUNNING}
    assert found.duration_s < _HANGS_S / 2
    over.set()
    threading.Event().wait(0.05)
    assert sorted(order[1:]) == ["a", "b"], "each in its own thread, before its resume"


def test_who_takes_a_guest_over_after_it_was_looked_at_is_noticed(bench):
    """It was resumed and paused again while the next one was looked at: it is theirs."""

    def meddle(member):
        if member.name == "b":
            bench.hypervisor.resume("uuid-a", Deadline.after(1))
            bench.hypervisor.pause("uuid-a", Deadline.after(1))

    bench.edges = Edges(resuming=meddle)
    found = bench.hold()
    assert isinstance(found.guests["a"].resume_error, TakenOver)
    assert bench.states == {"a": PAUSED, "b": RUNNING}


@pytest.mark.parametrize("parks", [False, True])
def test_the_journal_is_read_before_the_resume_only_where_the_update_has_written_to_it(
    bench, monkeypatch, parks
):
    """It grows with the guests, and they wait meanwhile; what was paused is known."""
    reads: list[int] = []
    before_resume = []
    if parks:
        bench.journal.note(parkable(parking("a"), {}, {}))
    bench.hypervisor.processes["a"] = ProcessIdentity(7, 70)
    really = bench.journal.read
    bench.apply = lambda deadline: reads.clear() or Applied(0)
    monkeypatch.setattr(bench.journal, "read", lambda: reads.append(1) or really())
    bench.hypervisor.before["resume", "b"] = lambda: before_resume.append(bool(reads))
    bench.hold()
    assert before_resume == [parks]


def test_a_look_at_all_guests_that_fails_keeps_none_from_being_paused(bench):
    """Each pause looks for itself then."""
    bench.hypervisor.before["look", ""] = lambda: _raise(ConnectionLost("gone", operation="look"))
    assert bench.hold().applied == Applied(0)
