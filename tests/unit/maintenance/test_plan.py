"""Which guests are paused together, in which order, and what is refused before anything is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import PlanError, WrongState
from harness.core.settings import Config, GuestSection, Scope, SshSection
from harness.host.lifecycle import GuestState, StateReading
from harness.host.protocol import GuestInfo
from harness.maintenance.plan import PlanRules, make_plan

RUNNING = StateReading(GuestState.RUNNING, "booted")


def guest(name, domain=None, availability_set=None, state=RUNNING):
    return GuestInfo(
        name=name,
        uuid=f"uuid-{name}",
        state=state,
        accelerator="tcg",
        rtc_track="wall",
        memory_bytes=1,
        vcpus=1,
        update_domain=domain,
        availability_set=availability_set,
    )


def an_update(**changes):
    values = {
        "kind": "command",
        "scope": Scope.GUEST,
        "preserves_memory": True,
        "expected_s": 5.0,
        "expected_from": "somewhere",
        "warnings": (),
        "command": (),
    }
    return SimpleNamespace(**(values | changes))


def plan_of(config, chosen, update, **more):
    return make_plan(PlanRules.of(config), chosen, update, **more)


def shape(plan):
    return [(domain.name, [g.name for g in domain.guests]) for domain in plan.domains]


def test_domains_come_in_natural_order():
    """Domain 2 is before domain 10."""
    guests = [guest("c", "10"), guest("a", "2"), guest("b", "10")]
    assert shape(plan_of(Config(), guests, an_update())) == [("2", ["a"]), ("10", ["c", "b"])]


def test_configuration_beats_metadata():
    """harness.toml has the last word on a guest's update domain."""
    config = Config(guest=(GuestSection(name="a", update_domain="7"),))
    assert shape(plan_of(config, [guest("a", "0")], an_update())) == [("7", ["a"])]


def test_unlabelled_guests_are_their_own_domain_or_the_host():
    """Scope guest: one domain each. Scope host: all together."""
    guests = [guest("a"), guest("b")]
    assert shape(plan_of(Config(), guests, an_update())) == [("a", ["a"]), ("b", ["b"])]
    plan = plan_of(Config(), guests, an_update(scope=Scope.HOST))
    assert shape(plan) == [("host", ["a", "b"])]


def test_a_host_update_over_several_domains_is_refused():
    """What needs the whole host cannot be done one half after the other."""
    with pytest.raises(PlanError, match="2 update domains: 0, 1"):
        plan_of(Config(), [guest("a", "0"), guest("b", "1")], an_update(scope=Scope.HOST))


def test_an_update_that_does_not_preserve_memory_is_refused():
    """The reason is said, and that nothing can be paused for it."""
    with pytest.raises(PlanError, match="does not preserve guest memory"):
        plan_of(Config(), [guest("a")], an_update(preserves_memory=False))


@pytest.mark.parametrize(("expected_s", "fits"), [(28.0, True), (28.1, False)])
def test_an_update_that_cannot_fit_the_budget_is_refused(expected_s, fits):
    """Expected duration plus reserve must not exceed the budget (30 s, of it 2 s reserve)."""
    update = an_update(expected_s=expected_s)
    if fits:
        assert plan_of(Config(), [guest("a")], update).domains
    else:
        with pytest.raises(PlanError, match=r"28\.1 s.*2\.0 s that exceeds the budget of 30\.0 s"):
            plan_of(Config(), [guest("a")], update)


@pytest.mark.parametrize("state", [s for s in GuestState if s is not GuestState.RUNNING])
def test_a_guest_that_does_not_run_is_refused(state):
    """Every other state is refused, naming guest, state and reason."""
    with pytest.raises(WrongState, match=f"a: is {state} \\(user\\)") as caught:
        plan_of(Config(), [guest("a", state=StateReading(state, "user"))], an_update())
    if state is GuestState.PAUSED:
        assert "never resumes what it did not pause" in str(caught.value)


def test_nobody_and_twice_are_refused():
    """No guests is a mistake, and so is one guest named twice."""
    with pytest.raises(PlanError, match="no guests"):
        plan_of(Config(), [], an_update())
    with pytest.raises(PlanError, match="a: named more than once"):
        plan_of(Config(), [guest("a"), guest("a")], an_update())


def test_an_availability_set_in_one_domain_gets_a_warning():
    """All members paused at once is what availability sets are there to prevent."""
    together = [guest("a", "0", "web"), guest("b", "0", "web")]
    apart = [guest("a", "0", "web"), guest("b", "1", "web")]
    assert "web" in plan_of(Config(), together, an_update()).warnings[0]
    assert plan_of(Config(), apart, an_update()).warnings == ()


def test_guests_that_are_configured_with_one_address_are_told_at_plan_time():
    """A port of their own may tell them apart, so it is a warning; with one port it is an error."""

    def section(name, address="10.0.0.5", **ssh):
        return GuestSection(name=name, address=address, ssh=SshSection(**ssh))

    def planned(*sections):
        names = [one.name for one in sections]
        return plan_of(Config(guest=sections), [guest(name) for name in names], an_update())

    (warning,) = planned(section("web2"), section("web1"), section("db", "10.0.0.6")).warnings
    assert "web1 and web2 are configured with one address: 10.0.0.5" in warning
    for apart in ({"port": 2201}, {"proxy_jump": "bastion"}, {"address": "10.0.0.7"}):
        assert planned(section("web1"), section("web2", **apart)).warnings == ()
    nowhere = [GuestSection(name=name) for name in ("web1", "web2")]
    assert planned(*nowhere).warnings == ()
    with pytest.raises(PlanError, match="web1 and web2 .*10.0.0.5 port 2201"):
        planned(section("web1", port=2201), section("web2", port=2201))


def test_a_host_update_warns_of_running_guests_that_are_left_out():
    """Shut-off bystanders do not matter; running ones do."""
    off = guest("off", state=StateReading(GuestState.SHUT_OFF, "user"))
    plan = plan_of(Config(), [guest("a")], an_update(scope=Scope.HOST), others=[guest("db"), off])
    assert len(plan.warnings) == 1
    assert "db" in plan.warnings[0]
    assert "off" not in plan.warnings[0].split()


def spread(count, guests, **update):
    return plan_of(Config(spread=count), guests, an_update(**update))


def test_spread_puts_members_of_a_set_as_far_apart_as_they_go():
    """Two of a set in four domains: not next to each other."""
    guests = [guest(f"{s}{n}", None, s) for s in ("web", "db") for n in range(2)]
    assert shape(spread(4, guests)) == [
        ("0", ["db0"]),
        ("1", ["web0"]),
        ("2", ["db1"]),
        ("3", ["web1"]),
    ]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 12), st.randoms())
def test_spread_is_even_complete_and_deterministic(sizes, count, random):
    """As many domains as asked; a set's members differ by at most one; order does not matter."""
    guests = [guest(f"g{s}-{n}", None, f"set{s}") for s, size in enumerate(sizes)
              for n in range(size)]  # fmt: skip
    plan = spread(count, guests)
    assert len(plan.domains) == min(count, len(guests))
    for s, size in enumerate(sizes):
        loads = [sum(g.availability_set == f"set{s}" for g in d.guests) for d in plan.domains]
        assert sum(loads) == size
        assert max(loads) - min(loads) <= 1
    random.shuffle(guests)
    again = spread(count, guests)
    assert [(d.name, {g.name for g in d.guests}) for d in again.domains] == [
        (d.name, {g.name for g in d.guests}) for d in plan.domains
    ]


def test_two_update_domains_of_a_set_cannot_be_paused_at_once():
    """Not even by spreading them over too few."""
    guests = [guest("a", "0", "web"), guest("b", "1", "web"), guest("c", "1", "db")]
    assert len(spread(2, guests).domains) == 2
    with pytest.raises(PlanError, match="availability set web: a, b are in update domains 0, 1"):
        spread(1, guests)


def test_a_guest_that_has_opted_out_is_left_out_and_the_reason_is_told():
    """A warning, not a silence."""
    config = Config(guest=(GuestSection(name="b", opt_out="nightly batch"),))
    plan = plan_of(config, [guest("a"), guest("b")], an_update())
    assert shape(plan) == [("a", ["a"])]
    assert plan.warnings == ("b is left out: nightly batch",)


def test_where_all_must_pause_nobody_can_be_left_out():
    """An update of the whole host is refused, with the reason."""
    config = Config(guest=(GuestSection(name="b", opt_out="nightly batch"),))
    with pytest.raises(PlanError, match="nightly batch"):
        plan_of(config, [guest("a"), guest("b")], an_update(scope=Scope.HOST))


@pytest.mark.parametrize(
    ("count", "at_most", "sizes"),
    [
        (5, 2, [2, 2, 1]),
        (4, 2, [2, 2]),
        (2, 2, [2]),
        (3, 9, [3]),
        (7, 3, [3, 2, 2]),
        (2, 1, [1, 1]),
    ],
)
def test_a_domain_of_many_guests_is_done_in_parts(count, at_most, sizes):
    """As few and as equal as they go; every guest once, in order, in the domain of its part."""
    guests = [guest(f"g{n}", "web") for n in range(count)] + [guest("other", "z")]
    plan = plan_of(Config(at_most=at_most), guests, an_update())
    *parts, last = plan.domains
    assert [len(part.guests) for part in parts] == sizes
    assert [one.name for one in plan.guests] == [one.name for one in guests]
    assert all(one.update_domain == part.name for part in plan.domains for one in part.guests)
    names = [f"web ({n + 1} of {len(sizes)})" for n in range(len(sizes))]
    assert [part.name for part in parts] == (names if len(sizes) > 1 else ["web"])
    assert last.name == "z"


def test_guests_that_must_pause_together_are_not_done_in_parts():
    """The update needs the whole host; what is allowed is named."""
    guests = [guest(name) for name in "abc"]
    with pytest.raises(PlanError, match="all 3 guests must pause together, but at most 2 may"):
        plan_of(Config(at_most=2), guests, an_update(scope=Scope.HOST))
    plan = plan_of(Config(at_most=3), guests, an_update(scope=Scope.HOST))
    assert len(plan.domains) == 1


def test_members_of_a_set_that_are_kept_apart_are_refused_though_parts_would_part_them():
    """Only which guests are in one domain says who may pause together."""
    guests = [guest("a", "0", "web"), guest("b", "1", "web")]
    with pytest.raises(PlanError, match="would be paused at once"):
        plan_of(Config(spread=1, at_most=1), guests, an_update())


@given(
    domains=st.lists(st.sampled_from(["0", "1", "2", "10", "web"]), min_size=1, max_size=20),
    at_most=st.integers(1, 8),
    spread=st.none() | st.integers(1, 4),
)
def test_parts_keep_what_update_domains_mean(domains, at_most, spread):
    """Nobody is paused with a guest that it would not be without parts, nor in another order."""
    guests = [guest(f"g{number}", domain) for number, domain in enumerate(domains)]
    whole = plan_of(Config(spread=spread), guests, an_update())
    parted = plan_of(Config(spread=spread, at_most=at_most), guests, an_update())
    assert [one.name for one in parted.guests] == [one.name for one in whole.guests]
    domain_of = {one.name: one.update_domain for one in whole.guests}
    for part in parted.domains:
        assert 1 <= len(part.guests) <= at_most
        assert len({domain_of[one.name] for one in part.guests}) == 1
    most = {domain.name: -(-len(domain.guests) // at_most) for domain in whole.domains}
    assert len(parted.domains) == sum(most.values())
