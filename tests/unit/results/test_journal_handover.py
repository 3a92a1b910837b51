"""A journal over two boots of the host: what was handed over, and who may still be brought back."""

from __future__ import annotations

import pytest

from harness.results.journal import Custody, Line, Member, Reading, ToDo, entries, fold
from harness.results.journal.entries import (
    Arrived,
    Consumed,
    HandingOver,
    Leaving,
    Parked,
    Parking,
    Paused,
    Pausing,
    Refused,
    Resumed,
    RunStarted,
    Stayed,
    Unparked,
    Unparking,
)

A, B = Member("a", "uuid-a"), Member("b", "uuid-b")
OF_A, OF_B = ("a", "uuid-a"), ("b", "uuid-b")
ALL = (ToDo.UNPARK, ToDo.RESUME, ToDo.CORRECT_CLOCK)


def parkable(name: str, device: int = 1) -> entries.Parkable:
    ram = {"pc.ram": f"{device}:7"}
    return entries.Parkable(name, f"uuid-{name}", "/k", "/f", "/r", name, ram, "/c")


LEFT = (
    RunStarted(boot_id="one"),
    *(parkable("a"), parkable("b"), Pausing((A, B))),
    *(Paused(*OF_A, qemu_pid=3, qemu_start_ticks=4, vcpu_ns=5), Paused(*OF_B)),
    *(Parking(*OF_A), Parked(*OF_A), HandingOver(*OF_A, release="6.12")),
    *(Parking(*OF_B), Parked(*OF_B), HandingOver(*OF_B, release="6.12")),
    Leaving("6.12", "one", tsc=11, at_realtime_ns=12),
)
THAWED = (
    Arrived("two", "6.12", "thaw", moved_ns=-3, uncertainty_ns=1),
    *(parkable("a", 2), parkable("b", 2)),
    *(Unparking(*OF_A, "thaw"), Unparked(*OF_A, "thaw", qemu_pid=9, qemu_start_ticks=8)),
    *(Consumed(*OF_A), Resumed(*OF_A, "thaw")),
)


def history(*told: entries.Entry):
    lines = tuple(
        Line(n, entry.event, entry, {}, boottime_ns=n) for n, entry in enumerate(told, start=1)
    )
    return fold(Reading(lines))


def test_who_is_handed_over_is_held_until_it_runs():
    """By the kernel that hands it over, and by the next one."""
    seen = history(*LEFT)
    assert seen.held == (A, B)
    assert {one.custody for one in seen.guests.values()} == {Custody.HANDED_OVER}
    assert seen.guests["uuid-a"].todo == ALL
    assert (seen.left.release, seen.boot_id, seen.arrived) == ("6.12", "one", None)


def test_a_kernel_that_could_not_be_started_was_not_left():
    """Its guests are brought back in place, as any that are parked."""
    seen = history(*LEFT, Stayed("kexec was refused"), Unparking(*OF_A, "guardian"))
    assert (seen.left, seen.boot_id, seen.held) == (None, "one", (A, B))
    assert seen.guests["uuid-a"].custody is Custody.UNPARKING
    assert history(*LEFT, Stayed(), Resumed(*OF_A, "guardian"), Resumed(*OF_B, "run")).held == ()


def test_who_was_handed_over_is_held_by_the_boot_that_arrived():
    """With what that boot knows of its files, and nothing of processes that ended with another."""
    seen = history(*LEFT, *THAWED[:3])
    guest = seen.guests["uuid-a"]
    assert (seen.held, seen.boot_id, guest.todo) == ((A, B), "two", ALL)
    assert (guest.life, guest.pause, guest.parkable.ram) == (None, None, {"pc.ram": "2:7"})


def test_who_runs_again_is_held_no_longer_and_the_other_is():
    """The other's QEMU refused, for one."""
    seen = history(*LEFT, *THAWED)
    guest = seen.guests["uuid-a"]
    assert (seen.held, guest.custody, guest.consumed) == ((B,), Custody.RESUMED, True)
    assert guest.life.qemu_pid == 9
    again = history(*LEFT, *THAWED, Arrived("two", "6.12", "recover"))
    assert again.guests["uuid-a"] == guest  # its process is of this very boot


@pytest.mark.parametrize("until", [1, 2], ids=["consumed", "runs"])
def test_a_state_that_was_used_is_never_used_again(until):
    """The host was booted once more: the guest's disk is ahead of that state."""
    told = THAWED[: 5 + until]
    assert any(isinstance(one, Consumed) for one in told)
    seen = history(*LEFT, *told, Arrived("three", "6.1", "recover"))
    assert (seen.held, seen.guests["uuid-a"].custody) == ((B,), Custody.ENDED)


def test_a_start_that_did_not_get_so_far_is_tried_again_by_the_next_boot():
    """Nothing of the guest has run."""
    seen = history(*LEFT, *THAWED[:5], Arrived("three", "6.1", "recover"))
    assert seen.held == (A, B)


def test_where_the_region_is_not_what_it_was_nobody_is_brought_back():
    """What lies there may be anything."""
    seen = history(*LEFT, Arrived("two", "6.12", "thaw", problem="magic page"))
    assert seen.held == ()
    assert {one.custody for one in seen.guests.values()} == {Custody.ENDED}


def test_who_was_never_parked_has_ended_with_its_boot():
    """But for one that the run never paused."""
    told = (RunStarted(boot_id="one"), Pausing((A, B)), Refused(*OF_B), Arrived("two"))
    found = [one.custody for one in history(*told).guests.values()]
    assert found == [Custody.ENDED, Custody.REFUSED]
