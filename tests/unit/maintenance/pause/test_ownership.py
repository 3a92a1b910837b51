"""Whose guests are they, by the journal and by libvirt's events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from harness.host.protocol import EventKind, LifecycleEvent
from harness.maintenance.pause.ownership import Member, announced, held, resumed_since, unmended

A, B = Member("a", "uuid-a"), Member("b", "uuid-b")


def pausing(*members: Member) -> dict:
    return {"event": "pausing", "guests": [{"name": m.name, "uuid": m.uuid} for m in members]}


def about(event: str, member: Member, **more) -> dict:
    return {"event": event, "guest": member.name, "uuid": member.uuid, **more}


def events(*kinds: EventKind) -> list[LifecycleEvent]:
    return [LifecycleEvent("uuid-a", kind, "0", at_ns) for at_ns, kind in enumerate(kinds, 100)]


def test_held_from_the_intent_on_not_from_the_pause():
    """After a crash between the two, the guest may be paused."""
    assert held([pausing(A, B)]) == (A, B)
    assert held([pausing(A, B), about("paused", A)]) == (A, B)


def test_each_way_of_letting_go():
    """Refused, resumed by whomever, taken over, ended."""
    for event in ("refused", "resumed", "taken over", "ended"):
        assert held([pausing(A, B), about(event, A)]) == (B,)


def test_a_second_window_holds_again():
    """The same guest in the next maintenance of the same run."""
    assert held([pausing(A), about("resumed", A), pausing(A)]) == (A,)


@given(some.lists(some.sampled_from(["pausing", "resumed", "mended", "note", "refused"])))
def test_nobody_is_held_without_an_intent(names):
    """Whatever else the journal says; and whoever is held was intended to be paused last."""
    entries = [pausing(A) if name == "pausing" else about(name, A) for name in names]
    last = [name for name in names if name in ("pausing", "resumed", "refused")][-1:]
    assert held(entries) == ((A,) if last == ["pausing"] else ())


def test_a_clock_is_unmended_until_it_was_looked_at():
    """Also after the resume; not for a guest that was never paused."""
    entries = [pausing(A, B), about("refused", B), about("resumed", A)]
    assert unmended(entries) == (A,)
    assert unmended([*entries, about("mended", A)]) == ()


def test_who_else_set_about_resuming():
    """In this window only."""
    resuming = {"event": "resuming", "by": "guardian", "guests": [{"name": "a", "uuid": "uuid-a"}]}
    assert announced([pausing(A), resuming], A, besides="run")
    assert not announced([pausing(A), resuming], A, besides="guardian")
    assert not announced([pausing(A), resuming], B, besides="run")
    assert not announced([pausing(A), resuming, pausing(A)], A, besides="run")


def test_a_resume_by_somebody_else_shows_in_the_events():
    """Only one that came after our pause."""
    suspended, resumed = EventKind.SUSPENDED, EventKind.RESUMED
    assert not resumed_since(events(), 0)
    assert not resumed_since(events(suspended), 0)
    assert not resumed_since(events(resumed), 0)
    assert resumed_since(events(suspended, resumed), 0)
    assert resumed_since(events(suspended, resumed, suspended), 0)
    assert not resumed_since(events(suspended, resumed, suspended), 102)
