"""Any interleaving of two hosts that share their events: the contract of the set holds on both."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harness.core.errors import EventError
from harness.core.settings import AvailabilitySetSection, Config, EventsSection, GuestSection
from harness.core.timebase import Deadline
from harness.events.announcer import EventNotice
from harness.events.document import VISIBLE, State, render
from harness.events.membership import Scopes, memberships
from harness.events.shared import SharedStore
from harness.events.store import Look, Store
from harness.host.lifecycle import GuestState
from harness.maintenance.plan import PlanRules, make_plan
from harness.testing.clock import FakeClock
from harness.testing.hypervisor import FakeHypervisor
from harness.testing.updates import Meddling
from tests.unit.events.test_machine import IN_MEMORY, FakeInterruption

#: On each of two hosts: guests of set A, which spans both; of set B, another one on each; and c.
PLACES = {"a0": ("A", "0"), "a1": ("A", "1"), "b1": ("B", "1"), "c": (None, "0")}
HOSTS = ("h1", "h2")
SHARED = "set:A"


class Host:
    """A run and the server of one host."""

    def __init__(self, name: str, folder: Path, clock: FakeClock) -> None:
        self.name = name
        shared = SharedStore(f"sqlite:///{folder / 'shared.db'}", name)
        guests = tuple(
            GuestSection(name=f"{name}-{guest}", update_domain=domain, availability_set=one)
            for guest, (one, domain) in PLACES.items()
        )
        spanning = AvailabilitySetSection(name="A", spans_hosts=True)
        config = Config(
            guest=guests,
            availability_set=(spanning,),
            events=EventsSection(notice_s=900.0, time_scale=10.0, store=shared.url),
        )
        hypervisor = FakeHypervisor(dict.fromkeys([g.name for g in guests], GuestState.RUNNING))
        found = hypervisor.guests(Deadline.after(1))
        scopes = Scopes.of(config.availability_set, shared)
        self.run = folder / name
        self.plan = make_plan(PlanRules.of(config), found, Meddling())
        self.store = Store(folder, clock, shared)
        self.server = Store(folder, clock, shared)
        known = partial(memberships, config.guest, found, scopes)
        self.notice = EventNotice(
            self.store, config.events, (), known, duration_s=1.0, scopes=scopes, clock=clock
        )
        journal: Any = SimpleNamespace(note=lambda *_, **__: None)
        self.notice.begin(self.plan, self.run, journal)
        self.to_do = list(self.plan.domains)
        self.current: Any = None
        self.started = self.dead = False

    def ids(self) -> list[str]:
        return self.notice._ids[self.current.name] if self.current else []

    def in_the_set(self) -> bool:
        return any(self.store.find(one).scope == SHARED for one in self.ids())


class Events(RuleBasedStateMachine):
    """Two runs with leases, their servers and guests; one of them may die."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
        self.clock = FakeClock()
        self.hosts = [Host(name, Path(self.folder.name), self.clock) for name in HOSTS]
        self.bodies: dict[Any, bytes] = {}
        self.newest: dict[Any, int] = {}
        self.identity: dict[str, Any] = {}

    def teardown(self) -> None:
        for host in self.hosts:
            host.store.close()
            host.server.close()
        self.folder.cleanup()

    def other(self, host: Host) -> Host:
        return next(one for one in self.hosts if one is not host)

    def visible(self) -> list[Any]:
        return self.hosts[0].store.events(*VISIBLE)

    @rule(number=st.sampled_from((0, 1)), leased=st.booleans())
    def announce(self, number: int, leased: bool) -> None:
        """With the lease what a dead host left goes; without, whatever is there is respected."""
        host = self.hosts[number]
        if host.dead or host.current is not None or not host.to_do:
            return
        other = self.other(host)
        if leased and other.current is not None and not other.dead:
            return  # its lease is taken
        host.notice._leased = leased
        domain = host.to_do[0]
        theirs = any(one.scope == SHARED and one.host == other.name for one in self.visible())
        ids = host.notice._ids[domain.name]
        ours = any(host.store.find(one).scope == SHARED for one in ids)
        try:
            host.notice.announce(domain)
        except EventError:
            assert theirs
            assert ours
            assert not leased
            return
        assert leased or not (theirs and ours)
        host.current, host.started = host.to_do.pop(0), False

    @invariant()
    def every_guest_polls(self) -> None:
        """After each step, so that no change of a document goes by between two polls of it."""
        for host in self.hosts:
            look = host.server.look()
            for scope in {look.members[f"uuid-{host.name}-{guest}"].scope for guest in PLACES}:
                self.poll(host, scope, look)

    def poll(self, host: Host, scope: str, look: Look) -> None:
        document = render(look.snapshots[scope], "2020-07-01")
        data = json.loads(document.body)
        at = (host.name if scope != SHARED else "", scope)
        assert self.newest.get(at, 1) <= document.incarnation
        self.newest[at] = document.incarnation
        assert self.bodies.setdefault((scope, document.incarnation), document.body) == document.body
        for event in data["Events"]:
            owners = {name.partition("-")[0] for name in event["Resources"]}
            assert len(owners) == 1
            assert scope == SHARED or owners == {host.name}
            told = (event["EventType"], tuple(event["Resources"]))
            assert self.identity.setdefault(event["EventId"], told) == told

    @rule(number=st.sampled_from((0, 1)), guest=st.sampled_from(sorted(PLACES)),
          choice=st.integers(0, 30))  # fmt: skip
    def approve(self, number: int, guest: str, choice: int) -> None:
        """Whatever is in the guest's own scope, on whichever host, and nothing else."""
        host = self.hosts[number]
        known = host.store.events()
        found = known[choice % len(known)]
        member = next(m for m in host.server.members() if m.name == f"{host.name}-{guest}")
        allowed = found.scope == member.scope and found.state is not State.PLANNED
        try:
            host.server.approve([found.event.event_id], member.name, scope=member.scope)
            assert allowed
        except EventError:
            assert not allowed

    @rule(number=st.sampled_from((0, 1)))
    def ask_for_permission(self, number: int) -> None:
        host = self.hosts[number]
        if host.dead or host.current is None or host.started:
            return
        interruption = cast(Any, FakeInterruption(self.clock))
        cancelled = any(host.store.find(e).state is State.CANCELLED for e in host.ids())
        try:
            host.started = host.notice.wait(host.current, 0, interruption)
        except EventError:
            assert cancelled
            return
        assert not cancelled
        if host.started:
            assert all(host.store.find(e).state is State.STARTED for e in host.ids())

    @rule(number=st.sampled_from((0, 1)))
    def over(self, number: int) -> None:
        host = self.hosts[number]
        if host.dead or host.current is None:
            return
        host.notice.over(host.current)
        host.current = None

    @precondition(lambda self: not any(host.dead for host in self.hosts))
    @rule(number=st.sampled_from((0, 1)))
    def dies(self, number: int) -> None:
        """Its events stay; its lease ends by itself."""
        self.hosts[number].dead = True

    @rule(seconds=st.floats(0, 120))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def of_the_set_one_host_has_one_update_domain_in_sight(self) -> None:
        places = {(one.host, one.update_domain) for one in self.visible() if one.scope == SHARED}
        assert len(places) <= 1


Events.TestCase.settings = settings(max_examples=20, stateful_step_count=33, deadline=None)
test_any_interleaving_of_two_hosts_keeps_the_contract = Events.TestCase
