"""Waves of hosts: what holds for every fleet."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import run_command_line
from harness.core.errors import PlanError
from harness.fleet.waves import FleetHost, plan_waves

NAMES = st.text("abcdefgh-19é", min_size=1, max_size=6)
SETS = st.frozensets(st.sampled_from([f"set-{n}" for n in range(8)]), max_size=4)


@st.composite
def fleets(draw: st.DrawFn) -> list[FleetHost]:
    """Hosts with and without sets, some of them canaries."""
    names = draw(st.lists(NAMES, unique=True, max_size=25))
    return [FleetHost(name, draw(SETS), canary=draw(st.booleans())) for name in names]


LIMITS = st.none() | st.integers(1, 5)


@given(fleets(), LIMITS)
def test_each_host_is_done_once_and_no_set_is_met_twice_in_a_wave(hosts, at_most):
    waves = plan_waves(hosts, at_most=at_most)
    sets = {host.name: host.sets for host in hosts}
    assert Counter(name for wave in waves for name in wave.hosts) == Counter(list(sets))
    for wave in waves:
        assert wave.hosts
        assert at_most is None or len(wave.hosts) <= at_most
        for one, other in combinations(wave.hosts, 2):
            assert not sets[one] & sets[other]


@given(fleets(), LIMITS)
def test_canaries_are_first_and_alone(hosts, at_most):
    waves = plan_waves(hosts, at_most=at_most)
    canaries = {host.name for host in hosts if host.canary}
    for wave in waves:
        assert set(wave.hosts) <= canaries if wave.canary else not set(wave.hosts) & canaries
    assert sorted(waves, key=lambda wave: not wave.canary) == list(waves)


@given(fleets(), LIMITS, st.randoms(use_true_random=False))
def test_the_same_hosts_are_the_same_waves(hosts, at_most, rng):
    """In whatever order they come."""
    shuffled = rng.sample(hosts, len(hosts))
    assert plan_waves(shuffled, at_most=at_most) == plan_waves(hosts, at_most=at_most)


@given(fleets(), st.data())
def test_the_wave_that_a_person_gave_goes_before_all_else(hosts, data):
    """Those who share one are in one; the order of the numbers is that of the waves."""
    given_waves = {host.name: data.draw(st.none() | st.integers(1, 4)) for host in hosts}
    named = [FleetHost(h.name, h.sets, given_waves[h.name], h.canary) for h in hosts]
    try:
        waves = plan_waves(named)
    except PlanError:
        clashes = [
            (one, other)
            for one, other in combinations(named, 2)
            if one.wave is not None and one.wave == other.wave and one.sets & other.sets
        ]
        assert clashes
        return
    place = {name: number for number, wave in enumerate(waves) for name in wave.hosts}
    for one, other in combinations([host for host in named if host.wave is not None], 2):
        assert one.wave is not None
        assert other.wave is not None
        assert (place[one.name] < place[other.name]) == (one.wave < other.wave)
        assert (place[one.name] == place[other.name]) == (one.wave == other.wave)
        assert not waves[place[one.name]].canary


@given(fleets())
def test_no_more_waves_than_the_most_entangled_host_needs(hosts):
    """First fit needs one wave more than a host has neighbours, and never fewer than a set has."""
    waves = [wave for wave in plan_waves(hosts) if not wave.canary]
    others = [host for host in hosts if not host.canary]
    neighbours = [
        sum(bool(one.sets & other.sets) for other in others if other is not one) for one in others
    ]
    largest = max(Counter(name for host in others for name in host.sets).values(), default=0)
    assert largest <= len(waves) <= max(neighbours, default=-1) + 1


def test_two_thousand_hosts_are_sorted_in_two_seconds():
    """Each with guests of 6 of 600 sets; on a busy machine."""
    rng = random.Random(21)
    names = [f"set-{number}" for number in range(600)]
    hosts = [FleetHost(f"host-{n:04}", frozenset(rng.sample(names, 6))) for n in range(2000)]
    began = time.process_time()
    waves = plan_waves(hosts)
    assert time.process_time() - began <= 2.0
    largest = max(Counter(name for host in hosts for name in host.sets).values())
    assert largest <= len(waves) <= largest + 10


@pytest.mark.parametrize(
    ("hosts", "at_most", "said"),
    [
        ([FleetHost("a"), FleetHost("a")], None, "host a is there twice"),
        (
            [FleetHost("a", frozenset({"web"}), 2), FleetHost("b", frozenset({"web"}), 2)],
            None,
            "hosts a and b are both in wave 2 .* set web",
        ),
        ([FleetHost("a", wave=1), FleetHost("b", wave=1)], 1, "more hosts than 1: a, b"),
        ([FleetHost("a", wave=0)], None, "begin with 1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(hosts, at_most, said):
    with pytest.raises(PlanError, match=said):
        plan_waves(hosts, at_most=at_most)


def a_plan(*sets: str | None) -> dict[str, object]:
    guests = [{"name": f"g{n}", "availability_set": one} for n, one in enumerate(sets)]
    return {"update_domains": [{"name": "0", "guests": guests}], "later": []}


@pytest.fixture
def planned(tmp_path, capsys):
    """``harness fleet plan`` for the documents of hosts: exit code, JSON, stderr."""

    def run(*options: str, **hosts: object):
        for host, document in hosts.items():
            text = document if isinstance(document, str) else json.dumps(document)
            (tmp_path / f"{host}.json").write_text(text)
        files = [str(tmp_path / f"{host}.json") for host in hosts]
        code = run_command_line(["fleet", "plan", *files, *options, "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out), printed.err

    return run


def test_plans_of_hosts_become_waves(planned):
    """The plan itself, and the answer of a rollout with it; who has nothing to do is left out."""
    answer = {"rollout": "r", "outcome": "pass", "error": None, "plan": a_plan("web", None)}
    idle = {"rollout": "r", "outcome": "not-needed", "error": {"message": "so already"}}
    code, said, _ = planned(
        "--canary", "h3", a=answer, h1=a_plan("web", "db"), h2=a_plan("db"), h3=a_plan(), h4=idle
    )
    assert code == 0
    assert said["waves"] == [
        {"number": 1, "canary": True, "hosts": ["h3"]},
        {"number": 2, "canary": False, "hosts": ["h1"]},
        {"number": 3, "canary": False, "hosts": ["a", "h2"]},
    ]
    assert said["not_needed"] == {"h4": "so already"}


@pytest.mark.parametrize(
    ("options", "document", "said"),
    [
        ((), {"error": {"message": "is paused", "hint": "resume it"}}, "host h refused: is paused"),
        ((), "{", "h.json cannot be read: it is not JSON"),
        ((), [1], "host h: this is no plan"),
        ((), {"update_domains": [3]}, "host h: this is no plan"),
        (("--wave", "h=x"), {"update_domains": []}, "--wave"),
        (("--canary", "x"), {"update_domains": []}, "no plan of host 'x'"),
    ],
)
def test_what_is_no_plan_is_refused(planned, options, document, said):
    code, answer, _ = planned(*options, h=document)
    assert code == 2
    assert said in answer["error"]["message"]
