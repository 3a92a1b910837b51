"""Guests that a person names: found by name or UUID, or one error with all that helps."""

from __future__ import annotations

import pytest

from harness.core.errors import GuestNotFound, UnknownGuest
from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState
from harness.maintenance.named import pick
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
