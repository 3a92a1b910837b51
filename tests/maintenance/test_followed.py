"""What the fleet's database is told of a host's part: real processes, on a host in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.fleet.database import FleetDatabase
from harness.fleet.leases import release, take
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


def dead(host: Host) -> None:
    """A run that was killed with its guests paused."""
    with host.updating():
        going = host.start(*RUN)
        host.until("paused")
        going.kill()
        going.communicate(timeout=10)


def test_recover_finishes_the_part_of_a_host_that_died(host, fleet):
    """Its exit code and JSON, the fleet's views, and the set for other hosts: all say that."""
    dead(host)
    assert host.run(*RUN).code == 3
    assert [one.run_id for one in fleet.rollout().leases] == [host.runs[0].name]
    recovering = host.start("recover")
    out, said = recovering.communicate(timeout=60)
    (run,) = json.loads(out)["runs"]
    assert run["rollout"] == {"rollout": "r", "outcome": "interrupted", "exit_code": 130}
    assert "rollout r: the part of this host is over: interrupted (exit code 130)" in said
    over = fleet.h7()
    assert (over.state, over.part.exit_code) == (State.FAILED, 130)
    assert "its record is complete" in over.part.message
    assert fleet.rollout().leases == ()
    again = host.run(*RUN)
    assert (again.code, again.answer["already"]) == (130, True)
    assert again.answer["record"]["finished_at"] is not None


def planned(host: Host) -> str:
    return " ".join(host.run("plan", "--rollout", "r", "web1").answer["plan"]["warnings"])


def test_a_lease_that_ended_by_itself_is_said(host, fleet):
    """By what plans, by what is refused, and to who has it next."""
    database = FleetDatabase(fleet.url)
    held_by = {"update_domain": "3", "run_id": "x", "host": "h9"}
    take(database, ["web"], **held_by, seconds=600.0)
    warning = planned(host)
    assert "availability set web is held by update domain 3 on h9, run x" in warning
    release(database, ["web"], "x")
    take(database, ["web"], **held_by, seconds=-7200.0)
    warning = planned(host)
    assert "the lease of availability set web ended by itself 2 h ago" in warning
    assert "update domain 3 on h9, run x, did not release it" in warning
    fleet.lose()
    warning = planned(host)
    assert "without it no guest of a set is paused" in warning
