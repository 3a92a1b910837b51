"""Whose guests are they: by its process, its vCPUs' time and libvirt's events since our pause."""

from __future__ import annotations

import pytest

from harness.host.protocol import EventKind, LifecycleEvent, ProcessIdentity
from harness.maintenance.pause.takeover import PauseEdge, restarted_since, resumed_since

SUSPENDED, RESUMED, STARTED = EventKind.SUSPENDED, EventKind.RESUMED, EventKind.STARTED
QEMU = ProcessIdentity(7, 70)


def events(*kinds: EventKind) -> list[LifecycleEvent]:
    return [LifecycleEvent("uuid-a", kind, "0", at_ns) for at_ns, kind in enumerate(kinds, 100)]


def test_a_resume_by_somebody_else_shows_in_the_events():
    """Only one that came after our pause."""
    edge = PauseEdge(0)
    assert not resumed_since(edge, None, events())
    assert not resumed_since(edge, None, events(SUSPENDED))
    assert not resumed_since(edge, None, events(RESUMED))
    assert resumed_since(edge, None, events(SUSPENDED, RESUMED))
    assert resumed_since(edge, None, events(SUSPENDED, RESUMED, SUSPENDED))
    assert not resumed_since(PauseEdge(102), None, events(SUSPENDED, RESUMED, SUSPENDED))


@pytest.mark.parametrize(
    ("used_ns", "told", "resumed"),
    [
        (0, True, False),  # the events are of what came before our pause, and late
        (50_000, True, False),
        (50_001, True, True),
        (5_000_000, False, False),
        (5_000_001, False, True),  # the event is late
    ],
)
def test_the_vcpus_time_cannot_be_late(used_ns, told, resumed):
    """Whose vCPUs have stood still has not run; and the other way round."""
    seen = events(SUSPENDED, RESUMED, SUSPENDED) if told else events(SUSPENDED)
    edge = PauseEdge(0, QEMU, 1_000_000)
    assert resumed_since(edge, 1_000_000 + used_ns, seen) is resumed


@pytest.mark.parametrize(
    ("now", "started_at_ns", "restarted"),
    [
        (QEMU, None, False),
        (None, None, False),
        (ProcessIdentity(8, 70), None, True),
        (ProcessIdentity(7, 71), None, True),
        (None, 100, True),
        (QEMU, 99, False),
    ],
)
def test_another_process_is_not_what_we_paused(now, started_at_ns, restarted):
    """Nor is what libvirt has started since; what cannot be seen is no evidence."""
    seen = [] if started_at_ns is None else [LifecycleEvent("u", STARTED, "0", started_at_ns)]
    assert restarted_since(PauseEdge(100, QEMU), now, seen) is restarted
