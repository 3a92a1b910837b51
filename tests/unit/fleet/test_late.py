"""Hosts that come late: whatever comes when, those that have a wave keep it."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.main import run_command_line
from harness.fleet.database import FleetDatabase
from harness.fleet.frozen import WavesAsked, freeze, frozen_waves
from harness.fleet.late import append
from harness.fleet.plans import HostPlan
from harness.fleet.waves import FleetHost, plan_waves

SETS = st.frozensets(st.sampled_from([f"set-{n}" for n in range(4)]), max_size=3)
PLANS = st.builds(HostPlan, SETS, st.just(1), st.none() | st.just("so already"))
#: The hosts of each time that a controller plans; one may come again, with another plan.
TIMES = st.lists(st.dictionaries(st.sampled_from("abcdefghij"), PLANS), min_size=2, max_size=4)


def sort(plans):
    needed = {host: plan for host, plan in plans.items() if plan.not_needed is None}
    return plan_waves((FleetHost(host, plan.sets) for host, plan in needed.items()), at_most=3)


@given(times=TIMES)
@settings(max_examples=25, deadline=None)
def test_waves_only_become_more_and_no_set_is_met_twice_in_one(tmp_path_factory, times):
    database = FleetDatabase(f"sqlite:///{tmp_path_factory.mktemp('fleet')}/fleet.db")
    first, *later = times
    freeze(database, "r", WavesAsked(tuple(first)), sort(first), first)
    before = frozen_waves(database, "r")
    placed = {host: first[host] for wave in before.waves for host in wave.hosts}
    for plans in later:
        now = append(database, "r", plans, sort)
        assert now == frozen_waves(database, "r")
        assert now.waves[: len(before.waves)] == before.waves
        assert now.asked == before.asked
        for wave in now.waves[len(before.waves) :]:
            assert wave.hosts
            placed |= {host: plans[host] for host in wave.hosts}
        names = [host for wave in now.waves for host in wave.hosts]
        assert len(names) == len(set(names))
        assert {h for h, plan in plans.items() if plan.not_needed is None} <= set(names)
        assert {host: now.plans[host] for host in placed} == placed
        for wave in now.waves:
            for one, other in combinations(wave.hosts, 2):
                assert not placed[one].sets & placed[other].sets
        before = now
    database.close()


def test_late_hosts_are_those_of_a_rollout(capsys):
    assert run_command_line(["fleet", "plan", "--late", "--json"]) == 2
    assert "--late: of which rollout?" in capsys.readouterr().out
