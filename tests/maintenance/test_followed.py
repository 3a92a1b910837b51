"""What the fleet's database is told of a host's part: real processes, on a host in memory."""

from __future__ import annotations

from typing import Any

import pytest

from harness.fleet.database import FleetDatabase
from harness.fleet.rollouts import Rollout, read_rollout
from harness.fleet.view import HostView, State
from tests.maintenance.test_rollout import Host
from tests.maintenance.test_rollout import host as host  # a fixture

RUN = ("run", "--rollout", "r", "web1", "web2")


class Fleet:
    """The database of a fleet in which this host is called ``h7``."""

    def __init__(self, host: Host) -> None:
        self.folder = host.folder / "shared"
        self.folder.mkdir()
        self.url = f"sqlite:///{self.folder / 'fleet.db'}"
        with (host.folder / "house.toml").open("a") as config:
            config.write(f'[fleet]\nhost = "h7"\ndatabase = "{self.url}"\n')
            for name in ("web1", "web2"):
                config.write(f'[[guest]]\nname = "{name}"\navailability_set = "web"\n')

    def lose(self) -> None:
        self.folder.rename(self.folder.with_name("lost"))

    def find(self) -> None:
        self.folder.with_name("lost").rename(self.folder)

    def rollout(self) -> Rollout:
        return read_rollout(FleetDatabase(self.url), "r")

    def h7(self) -> HostView:
        (one,) = self.rollout().view.hosts
        assert one.name == "h7"
        return one

    def part(self) -> Any:
        return self.h7().part


@pytest.fixture
def fleet(host) -> Fleet:
    return Fleet(host)


def test_a_run_is_told_as_it_goes(host, fleet):
    """Which update domain, with whose lease; then its end, and the figures of it."""
    with host.updating():
        going = host.start(*RUN)
        host.until("paused")
        now = fleet.h7()
        assert (now.state, now.part.doing) == (State.RUNNING, "update domain 1/1")
        assert now.part.run_id == host.runs[0].name
        (lease,) = fleet.rollout().leases
        assert (lease.host, lease.run_id) == ("h7", now.part.run_id)
    going.communicate(timeout=60)
    over = fleet.h7()
    assert going.returncode == 0
    assert (over.state, over.part.ending, over.part.exit_code) == (State.DONE, "pass", 0)
    assert over.part.guests == 2
    assert over.part.pause_window_s > 0.0
    assert fleet.rollout().leases == ()


def test_a_run_that_is_refused_is_told_too(host, fleet):
    """Not now is no failure; a login that fails is one, until it is tried again."""
    assert host.run(*RUN, wrong="login").code == 3
    failed = fleet.h7()
    assert failed.state is State.FAILED
    assert "web1: login refused" in failed.part.message
    assert host.run(*RUN).code == 0
    assert fleet.h7().state is State.DONE


def test_a_database_that_is_lost_fails_no_run_that_goes_on(host, fleet):
    """Lost under paused guests of the last update domain: PASS with a warning; told later."""
    with host.updating():
        going = host.start("run", "--rollout", "r", "web1")
        host.until("paused")
        fleet.lose()
    _, said = going.communicate(timeout=60)
    assert going.returncode == 0, said
    assert "warning: the views of the fleet lack this: " in said
    fleet.find()
    assert fleet.h7().state is State.RUNNING
    assert host.run("run", "--rollout", "r", "web1").answer["already"]
    assert fleet.h7().state is State.DONE


def test_a_run_that_died_is_told_by_the_next_command(host, fleet):
    with host.updating():
        going = host.start(*RUN)
        host.until("paused")
        going.kill()
        going.communicate(timeout=10)
    assert fleet.h7().state is State.RUNNING  # nobody knows better yet
    assert host.run(*RUN).code == 3
    died = fleet.h7()
    assert died.state is State.DIED
    assert "web1, web2 may be paused" in died.part.message
    assert died.part.run_id == host.runs[0].name
