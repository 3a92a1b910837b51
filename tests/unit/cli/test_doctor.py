"""`harness doctor` without a configuration, and what it tells of each guest; guests in memory."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import pytest

from harness import api
from harness.cli.doctor import examine
from harness.cli.finding import Level
from harness.core.errors import UnknownGuest
from harness.core.settings import ClockSection, Config, GuestSection, UpdateSection
from harness.host.lifecycle import GuestState
from harness.testing.connector import FakeConnector
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost
from harness.updates import possible
from harness.updates.protocol import Site
from harness.updates.registry import KINDS
from tests.unit.updates.made import made


@pytest.fixture
def guests():
    return {name: FakeGuest(name) for name in ("web1", "web2", "off")}


@pytest.fixture
def look(guests, tmp_path):
    """What doctor finds, by name of the finding."""
    host = FakeHost(*guests.values())
    host.states["off"] = GuestState.SHUT_OFF
    there = api.Backend(lambda config: nullcontext(host), FakeConnector(guests))

    def run(*names, **changes):
        clock = ClockSection(tolerance_s=0.03)
        config = Config(**{"clock": clock, "prepare_timeout_s": 5.0, **changes})
        return {one.name: one for one in examine(config, tmp_path, there, names)}

    return run


def of_guests(found):
    return [name for name in found if name.startswith("guest ")]


def test_without_a_configuration_every_running_guest_is_looked_at(look):
    """One that does not run needs nothing, unless it is named."""
    assert of_guests(look()) == ["guest web1", "guest web2"]
    assert of_guests(look("web2")) == ["guest web2"]
    found = look("off")["guest off"]
    assert (found.level, "shut off" in found.detail) == (Level.PROBLEM, True)


def test_a_configuration_says_who_is_looked_at_and_names_go_before_it(look):
    """Its guests, also one that is not there; a name that nobody has is the person's mistake."""
    configured = {"guest": (GuestSection(name="web2"), GuestSection(name="gone"))}
    found = look(**configured)
    assert of_guests(found) == ["guest gone", "guest web2"]
    assert found["guest gone"].level is Level.PROBLEM
    assert of_guests(look("web1", **configured)) == ["guest web1"]
    with pytest.raises(UnknownGuest, match="web9"):
        look("web9")


def test_what_a_run_would_need_of_a_guest_is_told(look, guests):
    """Login, right to set its clock, interpreter, daemon, round trip and tolerance; as data too."""
    guests["web1"].time_daemon = "chronyd"
    guests["web1"].way_s = 0.002
    found = look("web1")["guest web1"]
    for words in ("root, may set its clock", "clock by python3", "time daemon chronyd"):
        assert words in found.detail
    assert "(allowed ± 30 ms)" in found.detail
    facts = found.facts
    assert 0.004 <= facts["round_trip_s"] < 2 * facts["tolerance_s"]
    assert (facts["interpreter"], facts["may_set_clock"], facts["uid"]) == ("python3", True, 0)


def test_a_guest_that_may_not_be_paused_is_told_so(look):
    """``opt_out`` is the reason, in words."""
    own = GuestSection(name="web1", opt_out="payroll until Monday")
    assert "payroll until Monday" in look(guest=(own,))["guest web1"].detail


def test_update_kinds_say_which_could_be_applied_from_here(look, monkeypatch):
    """A kind that cannot be is no problem unless it is the one that is configured."""
    monkeypatch.setattr(possible, "CHANGES_THIS_HOST", {"packages": (("no-such-apt", "apt"),)})
    found = look()["update kinds"]
    assert (found.level, found.facts["packages"], found.facts["stand-in"]) == (
        Level.OK,
        False,
        True,
    )
    assert "not packages: no-such-apt is not installed" in found.detail
    own = look(update=UpdateSection(kind="packages"))["update kinds"]
    assert (own.level, own.fix) == (Level.PROBLEM, "it is in apt")


def test_every_kind_that_changes_this_host_is_known_to_do_so():
    """Whose guests are elsewhere can be given none of those, and every other."""
    told = dict(possible.possible_kinds(Site("qemu+ssh://far.example/system")))
    assert set(told) == set(KINDS)
    for kind, error in told.items():
        module = sys.modules[type(made(KINDS[kind])).__module__]
        assert (error is not None) == hasattr(module, "require_this_host"), kind


@pytest.mark.parametrize(
    ("synchronised", "level"), [(True, Level.OK), (False, Level.WARNING), (None, None)]
)
def test_the_hosts_own_clock_is_looked_at(look, monkeypatch, synchronised, level):
    """Guests are set by it; a kernel that does not say is no finding."""
    monkeypatch.setattr("harness.cli.doctor.synchronised", lambda: synchronised)
    found = look().get("host clock")
    assert (found and found.level) == level
    assert bool(found and found.fix) == (synchronised is False)
