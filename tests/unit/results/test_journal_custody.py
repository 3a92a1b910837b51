"""What follows from a journal: who is held, and what is left to do for each guest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from harness.results.journal import Custody, Life, Line, Member, Reading, ToDo, entries, fold
from harness.results.journal.entries import (
    Armed,
    Ended,
    Mended,
    Paused,
    Pausing,
    Recovered,
    Refused,
    Rescue,
    Resumed,
    Resuming,
    RunFinished,
    RunStarted,
    RunStranded,
    Saved,
    TakenOver,
    UpdateDomainBegun,
)

A, B = Member("a", "uuid-a"), Member("b", "uuid-b")
OF_A = ("a", "uuid-a")


def history(*told: entries.Entry):
    """Of a journal with these entries; the n-th was written at n nanoseconds."""
    lines = tuple(
        Line(n, entry.event, entry, {}, boottime_ns=n) for n, entry in enumerate(told, start=1)
    )
    return fold(Reading(lines))


def test_held_from_the_intent_on_not_from_the_pause():
    """After a crash between the two, the guest may be paused."""
    assert history(Pausing((A, B))).held == (A, B)
    assert history(Pausing((A, B)), Paused(*OF_A)).held == (A, B)


@pytest.mark.parametrize(
    ("release", "custody"),
    [
        (Refused(*OF_A), Custody.REFUSED),
        (Resumed(*OF_A, "guardian"), Custody.RESUMED),
        (TakenOver(*OF_A), Custody.TAKEN_OVER),
        (Ended(*OF_A), Custody.ENDED),
    ],
)
def test_each_way_of_letting_go(release, custody):
    """A pause that was given up may be told after that, and changes nothing."""
    for told in ([release], [release, Paused(*OF_A)]):
        seen = history(Pausing((A, B)), *told)
        assert seen.held == (B,)
        assert seen.guests["uuid-a"].custody is custody


def test_a_guest_that_was_saved_while_it_was_held_is_held():
    """Until it is told that it runs, or has ended; one that had been let go is not held by it."""
    saved = Saved(*OF_A, "run")
    seen = history(Pausing((A,)), Paused(*OF_A), saved, Paused(*OF_A))
    assert (seen.held, seen.guests["uuid-a"].custody) == ((A,), Custody.SAVED)
    assert history(Pausing((A,)), saved, Resumed(*OF_A, "recover")).held == ()
    assert history(Pausing((A,)), saved, Ended(*OF_A)).held == ()
    assert history(Pausing((A,)), Resumed(*OF_A, "run"), saved).held == ()


def test_the_life_of_a_guest_is_known_from_the_intent_on_and_better_after_the_pause():
    """Its process, and its vCPUs' time; a pause that could not see them takes nothing away."""
    intent = Pausing((A, B), (Life("uuid-a", 7, 70, 100),))
    assert history(intent).guests["uuid-a"].life == Life("uuid-a", 7, 70, 100)
    assert history(intent).guests["uuid-b"].life is None
    paused = Paused(*OF_A, qemu_pid=7, qemu_start_ticks=70, vcpu_ns=200)
    assert history(intent, paused).guests["uuid-a"].life == Life("uuid-a", 7, 70, 200)
    assert history(intent, Paused(*OF_A)).guests["uuid-a"].life == Life("uuid-a", 7, 70, 100)


def test_until_when_the_run_can_have_paused_a_guest():
    """From the intent to the limit of the guardian; unknown where that line is lost."""
    assert history(Armed(9.0)).windows == ()
    assert history(Pausing((A,))).guests["uuid-a"].guarded_s is None
    assert history(Pausing((A,)), Armed(9.0)).guests["uuid-a"].guarded_s == 9.000000001


def test_a_second_window_holds_again():
    """The same guest in the next maintenance of the same run."""
    assert history(Pausing((A,)), Resumed(*OF_A, "run"), Pausing((A,))).held == (A,)


#: What may be told of a guest, by its custody afterwards; None: as before.
TOLD = {
    Pausing((A,)): True,
    Resumed(*OF_A, "run"): False,
    Refused(*OF_A): False,
    Mended(*OF_A): None,
    Rescue(): None,
}


@given(some.lists(some.sampled_from(list(TOLD))))
def test_no_guest_is_held_without_an_intent(told):
    """Whatever else the journal says; and a guest that is held was intended to be paused last."""
    last = [TOLD[entry] for entry in told if TOLD[entry] is not None][-1:]
    assert history(*told).held == ((A,) if last == [True] else ())


@pytest.mark.parametrize("told", [Paused(*OF_A), Resuming("guardian", (A,))])
def test_a_guest_whose_intent_is_lost_is_held_by_what_came_after_it(told):
    """Of a journal with a damaged line."""
    assert history(told).held == (A,)
    assert history(told, Resumed(*OF_A, "guardian")).held == ()


def test_what_is_left_to_do_for_each_guest_in_order():
    """The clock of a guest that was never paused is its own affair."""
    told: list[entries.Entry] = [Pausing((A, B)), Refused("b", "uuid-b")]
    seen = history(*told).guests
    assert seen["uuid-a"].todo == (ToDo.RESUME, ToDo.CORRECT_CLOCK)
    assert seen["uuid-b"].todo == ()
    told.append(Resumed(*OF_A, "run"))
    assert history(*told).guests["uuid-a"].todo == (ToDo.CORRECT_CLOCK,)
    told.append(Mended(*OF_A))
    assert history(*told).guests["uuid-a"].todo == ()


def test_the_fold_says_what_brings_back_a_guest_of_every_custody():
    """A custody that is added without that is noticed here, not in a rescue."""
    from harness.results.journal.custody import GuestCustody

    assert all(isinstance(GuestCustody(A, custody).todo, tuple) for custody in Custody)


def test_who_started_to_resume_in_this_window_only():
    """And when; a second start does not move the first."""
    told: list[entries.Entry] = [Pausing((A,)), Resuming("guardian", (A,)), Resuming("run", (A,))]
    seen = history(*told).guests["uuid-a"]
    assert (seen.resuming_by, seen.resuming_ns) == ({"guardian", "run"}, 2)
    assert history(*told, Pausing((A,))).guests["uuid-a"].resuming_by == frozenset()


def test_the_stamps_of_a_guest_in_its_window():
    """By the boot clock."""
    (window,) = history(
        UpdateDomainBegun("blue"),
        Pausing((A,)),
        Paused(*OF_A),
        Resumed(*OF_A, "guardian"),
        Resumed(*OF_A, "run"),
        Mended(*OF_A),
        RunFinished(),
    ).windows
    guest = window.guests["uuid-a"]
    assert (window.domain, window.began_ns, window.last_ns) == ("blue", 2, 6)
    assert (guest.paused_ns, guest.resumed_ns, guest.mended_ns) == (
        3,
        {"guardian": 4, "run": 5},
        6,
    )
    assert guest.runs_since_ns == 5


@pytest.mark.parametrize(
    ("last", "ended"),
    [(RunFinished(), True), (Recovered(), True), (RunStranded(), False), (Rescue(), False)],
)
def test_a_run_has_ended_when_it_or_recover_said_so(last, ended):
    """One that left guests paused has not."""
    assert history(RunStarted(), Pausing((A,)), last).ended is ended
