"""Guests that a person names: found by name or UUID, or one error with all that helps."""

from __future__ import annotations

import pytest

from harness.core.errors import GuestNotFound, UnknownGuest
from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState
from harness.maintenance.named import pick, wanted
from harness.testing.hypervisor import FakeHypervisor

URI = "qemu:///system"


@pytest.fixture
def known():
    hypervisor = FakeHypervisor(dict.fromkeys(("web1", "web2", "db1"), GuestState.RUNNING))
    hypervisor.states["db1"] = GuestState.SHUT_OFF
    return hypervisor.guests(Deadline.after(5))


def test_guests_are_found_by_name_or_uuid_in_the_order_asked_for(known):
    assert [info.name for info in pick(known, ["web2", "uuid-web1"], URI)] == ["web2", "web1"]
    assert pick(known, [], URI) == []


def test_a_misspelt_guest_is_a_mistake_of_the_command_line(known):
    """Exit code 2; the near ones are named, and those that run."""
    with pytest.raises(UnknownGuest) as found:
        pick(known, ["web3"], URI)
    assert str(found.value) == (
        "web3: no such guest on qemu:///system (hint: did you mean 'web1' or 'web2'? "
        "running there: web1, web2)"
    )
    assert found.value.exit_code == 2
    assert isinstance(found.value, GuestNotFound)


def test_all_that_are_not_there_are_named_at_once(known):
    with pytest.raises(UnknownGuest) as found:
        pick(known, ["web9x", "web1", "mail"], URI)
    assert "no such guests on qemu:///system: web9x, mail" in str(found.value)
    assert "by 'web9x'?" in str(found.value)
    assert found.value.guest is None


def test_on_a_host_without_guests_that_is_said():
    with pytest.raises(UnknownGuest, match="no guest runs there"):
        pick([], ["web1"], URI)


def test_a_host_with_many_guests_does_not_list_them_all():
    many = FakeHypervisor({f"guest-{n:03}": GuestState.RUNNING for n in range(100)})
    with pytest.raises(UnknownGuest, match="and 88 more") as found:
        pick(many.guests(Deadline.after(5)), ["zzz"], URI)
    assert len(str(found.value)) < 300


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["web*"], ["web1", "web2"]),
        (["*"], ["web1", "web2"]),  # db1 is off
        (["web2", "web*"], ["web2", "web1"]),
        (["*", "!web1"], ["web2"]),
        (["!web1", "web1", "web2"], ["web2"]),
        (["web?", "!*2"], ["web1"]),
        (["db1"], ["db1"]),
    ],
)
def test_a_pattern_stands_for_guests_that_are_up(known, names, found):
    assert [info.name for info in pick(known, names, URI)] == found


@pytest.mark.parametrize("name", ["mail*", "!web9", "!mail*", "db*"])
def test_a_pattern_that_fits_no_guest_is_a_mistake(known, name):
    """Above all one that should have left a guest out."""
    with pytest.raises(UnknownGuest, match="no such guest"):
        pick(known, ["web1", name], URI)


def test_a_guest_that_is_called_like_a_pattern_is_meant_first():
    odd = FakeHypervisor(dict.fromkeys(("a*", "ab", "!ab"), GuestState.RUNNING))
    known = odd.guests(Deadline.after(5))
    assert [info.name for info in pick(known, ["a*"], URI)] == ["a*"]
    assert [info.name for info in pick(known, ["!ab"], URI)] == ["!ab"]


def test_where_guests_are_only_left_out_the_configured_are_meant():
    assert wanted(["!a"], ["a", "b"]) == ["a", "b", "!a"]
    assert wanted(["c"], ["a", "b"]) == ["c"]
    assert wanted([], ["a"]) == ["a"]
