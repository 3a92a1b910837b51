"""Whose guests are they, by libvirt's events."""

from __future__ import annotations

from harness.host.protocol import EventKind, LifecycleEvent
from harness.maintenance.pause.ownership import resumed_since


def events(*kinds: EventKind) -> list[LifecycleEvent]:
    return [LifecycleEvent("uuid-a", kind, "0", at_ns) for at_ns, kind in enumerate(kinds, 100)]


def test_a_resume_by_somebody_else_shows_in_the_events():
    """Only one that came after our pause."""
    suspended, resumed = EventKind.SUSPENDED, EventKind.RESUMED
    assert not resumed_since(events(), 0)
    assert not resumed_since(events(suspended), 0)
    assert not resumed_since(events(resumed), 0)
    assert resumed_since(events(suspended, resumed), 0)
    assert resumed_since(events(suspended, resumed, suspended), 0)
    assert not resumed_since(events(suspended, resumed, suspended), 102)
