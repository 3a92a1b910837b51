"""How a guest is parked is written down in all its parts, and read again as it was."""

from __future__ import annotations

from dataclasses import fields, replace

from harness.core.timebase import Deadline
from harness.host.parking import Parking
from harness.host.protocol import ProcessIdentity
from harness.maintenance.pause.life import LifeSeen, life_if_seen, vcpu_time_of
from harness.maintenance.pause.parkable import parkable, parking_of
from harness.results.journal import entries
from harness.testing.hypervisor import FakeHypervisor
from tests.unit.maintenance.pause.test_parking import FIRST, RUNNING, parking

#: No field of it is as it is by default.
PARKED = replace(
    parking("a", persistent=True),
    copied=True,
    trees=("/opt/qemu",),
    start_s=7.0,
    lasting=True,
    process=ProcessIdentity(5, 6),
)


def test_every_part_of_it_comes_back():
    """Also one that is added one day: every field differs from its default here."""
    bare = Parking(**{one.name: getattr(PARKED, one.name) for one in fields(Parking)[:9]})
    assert all(getattr(PARKED, f.name) != getattr(bare, f.name) for f in fields(Parking)[9:])
    for whole in (PARKED, replace(PARKED, process=None)):
        said = parkable(whole, {"old": "a"}, {"new": "b"})
        assert (said.emulators, said.versions) == ({"old": "a"}, {"new": "b"})
        assert parking_of(said) == whole


def test_what_cannot_be_seen_of_a_life_is_left_out(monkeypatch):
    """No guest waits for a number."""
    hypervisor = FakeHypervisor({"a": RUNNING})
    hypervisor.processes = {"a": FIRST}

    def broken(*ignored: object) -> int:
        raise OSError("no /proc")

    monkeypatch.setattr(hypervisor, "vcpu_time_ns", broken)
    assert vcpu_time_of(FIRST, hypervisor) is None
    seen = life_if_seen("uuid-a", hypervisor, Deadline.after(5))
    assert entries.Paused("a", "uuid-a", **seen.fields).qemu_pid == FIRST.pid
    monkeypatch.setattr(hypervisor, "process", broken)
    assert life_if_seen("uuid-a", hypervisor, Deadline.after(5)) == LifeSeen()
    assert LifeSeen(None, 5).fields["vcpu_ns"] is None
