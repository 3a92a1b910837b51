"""Whose is a guest that a dead run held and may have parked? By where it is, not by lost lines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState, StateReading
from harness.host.parking import Berth
from harness.host.protocol import ProcessIdentity
from harness.maintenance.pause.absence import Fate
from harness.maintenance.recovery.whose_pause import Sight, Verdict, judge, look
from harness.results.journal import Custody, GuestCustody, Member, entries
from harness.testing.hypervisor import FakeHypervisor

RUNNING, PAUSED = GuestState.RUNNING, GuestState.PAUSED
OFF, GONE = GuestState.SHUT_OFF, GuestState.GONE
OURS, OTHER = ProcessIdentity(7, 7), ProcessIdentity(8, 8)
PARKABLE = entries.Parkable(
    "a", "uuid-a", "/keep", "/files", "/ram", "a", {"pc.ram": "1:2"}, "/commands"
)
HELD = GuestCustody(
    Member("a", "uuid-a"),
    Custody.PARKED,
    parkable=PARKABLE,
    life=entries.Life("uuid-a", 7, 7, 1000),
)


def sight(state: GuestState, berth: Berth, process=None, vcpu_ns=None, fate=Fate.THERE) -> Sight:
    return Sight(StateReading(state, "saved"), fate, process, vcpu_ns, berth=berth)


@pytest.mark.parametrize(
    ("seen", "verdict", "words"),
    [
        (sight(GONE, Berth.PARKED), Verdict.RESUME, "was parked by this run"),
        (sight(OFF, Berth.PARKED, fate=Fate.SAVED), Verdict.RESUME, "was parked by this run"),
        (sight(PAUSED, Berth.ADRIFT), Verdict.RESUME, "a QEMU was being started"),
        (sight(RUNNING, Berth.ADRIFT, OTHER), Verdict.BOOTED, "other RAM than its own"),
        (sight(PAUSED, Berth.AFLOAT, OTHER, 1000), Verdict.RESUME, "has a QEMU again"),
        (sight(PAUSED, Berth.AFLOAT, OTHER, 10**9), Verdict.THEIRS, "has run since"),
        (sight(PAUSED, Berth.AFLOAT, OURS, 1000), Verdict.RESUME, "was paused by this run"),
        (sight(RUNNING, Berth.AFLOAT, OTHER), Verdict.AWAIT, "runs with its own RAM"),
        (sight(GONE, Berth.LOST), Verdict.ENDED, "RAM is gone"),
        (sight(OFF, Berth.LOST, fate=Fate.SAVED), Verdict.ENDED, "RAM is gone"),
        (sight(PAUSED, Berth.LOST, OURS, 1000), Verdict.RESUME, "was paused by this run"),
    ],
)
def test_a_held_guest_is_brought_back_by_where_it_is(seen, verdict, words):
    """And never started where its RAM is gone, or somebody runs it."""
    found, why = judge(HELD, seen, booted_since=False)
    assert found is verdict
    assert words in why


@pytest.mark.parametrize(
    ("seen", "custody", "verdict", "words"),
    [
        (sight(GONE, Berth.LOST), Custody.PARKED, Verdict.ENDED, "the host was booted while it"),
        (
            sight(OFF, Berth.LOST, fate=Fate.SAVED),
            Custody.UNPARKING,
            Verdict.ENDED,
            "saved state is of no use",
        ),
        (
            sight(OFF, Berth.LOST, fate=Fate.SAVED),
            Custody.PAUSED,
            Verdict.SAVED,
            "comes back paused",
        ),
        (sight(RUNNING, Berth.AFLOAT, OTHER), Custody.PARKED, Verdict.BOOTED, "since the host"),
        (sight(PAUSED, Berth.ADRIFT, OTHER), Custody.PARKED, Verdict.THEIRS, "started it since"),
        (
            sight(PAUSED, Berth.AFLOAT, OTHER, 10**9),
            Custody.PARKED,
            Verdict.THEIRS,
            "since the host",
        ),
    ],
)
def test_nobody_is_parked_any_more_once_the_host_was_booted(seen, custody, verdict, words):
    """Nothing is said of RAM: an inode that was the guest's may be another's."""
    found, why = judge(replace(HELD, custody=custody), seen, booted_since=True)
    assert found is verdict
    assert words in why
    assert "own RAM" not in why


@pytest.mark.parametrize(
    ("vcpu_ms", "main_ms", "verdict"),
    [
        (9, None, Verdict.RESUME),
        (11, None, Verdict.THEIRS),
        (11, 40, Verdict.THEIRS),  # of a host that is not slow
        (40, 1000, Verdict.RESUME),
        (60, 1000, Verdict.THEIRS),
        (300, 100_000, Verdict.THEIRS),  # its main thread has worked since
    ],
)
def test_what_a_start_costs_is_told_by_its_main_thread(vcpu_ms, main_ms, verdict):
    """A slow host's guest is no stranger's for that."""
    hypervisor = FakeHypervisor({"a": PAUSED})
    hypervisor.processes["a"] = OTHER
    hypervisor.vcpu_ns = {OTHER.pid: vcpu_ms * 1_000_000}
    if main_ms is not None:
        hypervisor.main_thread_ns[OTHER.pid] = main_ms * 1_000_000
    seen = look(HELD, hypervisor, Deadline.after(5))
    assert judge(HELD, seen, booted_since=False)[0] is verdict


def test_a_guest_that_is_not_held_is_not_looked_for():
    """It runs, or has ended: what lies in files is none of its business."""
    hypervisor = FakeHypervisor({"a": RUNNING})
    hypervisor.parking.berths["a"] = Berth.PARKED
    for custody in (replace(HELD, custody=Custody.RESUMED), replace(HELD, parkable=None)):
        assert look(custody, hypervisor, Deadline.after(5)).berth is None
    assert look(HELD, hypervisor, Deadline.after(5)).berth is Berth.PARKED
