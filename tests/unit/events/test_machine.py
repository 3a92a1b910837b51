"""Any interleaving of polls, approvals, cancellations, crashes and clocks that are set.

Never a wrong incarnation, a changed EventId, or a pause before its time.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from harness.core.errors import EventError
from harness.core.settings import Config, EventsSection, GuestSection
from harness.core.timebase import NS_PER_S, Deadline
from harness.events.announcer import EventNotice
from harness.events.cache import Desk
from harness.events.document import State
from harness.events.membership import memberships
from harness.events.store import Store
from harness.host.lifecycle import GuestState
from harness.maintenance.plan import PlanRules, make_plan
from harness.testing.clock import FakeClock
from harness.testing.hypervisor import FakeHypervisor
from harness.testing.updates import Meddling

#: Two sets and a guest of its own, in three update domains.
PLACES = {"a0": ("A", "0"), "a1": ("A", "1"), "b0": ("B", "0"), "b2": ("B", "2"), "c": (None, "0")}
NAMES = st.sampled_from(sorted(PLACES))
#: A disk makes each change wait for it, which is most of the time that this takes.
IN_MEMORY = Path("/dev/shm")


class FakeInterruption:
    """Waiting is free, and nobody interrupts."""

    def __init__(self, clock):
        self._clock = clock

    def check(self):
        pass

    def pause(self, seconds):
        self._clock.advance(seconds)


class Events(RuleBasedStateMachine):
    """A run, a server that crashes, guests, people, and a host whose clock is set."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
        self.path = Path(self.folder.name)
        self.clock = FakeClock()
        guests = tuple(
            GuestSection(name=name, update_domain=domain, availability_set=availability_set)
            for name, (availability_set, domain) in PLACES.items()
        )
        config = Config(guest=guests, events=EventsSection(notice_s=900.0, time_scale=10.0))
        hypervisor = FakeHypervisor(dict.fromkeys(PLACES, GuestState.RUNNING), self.clock)
        found = hypervisor.guests(Deadline.after(1))
        self.plan = make_plan(PlanRules.of(config), found, Meddling())
        self.store = Store(self.path, self.clock)
        known = partial(memberships, config.guest, found)
        self.notice = EventNotice(
            self.store, config.events, (), known, duration_s=1.0, clock=self.clock
        )
        journal: Any = SimpleNamespace(note=lambda *_, **__: None)
        self.notice.begin(self.plan, self.path, journal)
        self.runner = asyncio.Runner()
        self.desk = Desk(self.path, self.clock)
        self.crashed = []
        self.to_do = list(self.plan.domains)
        self.current = None
        self.started = False
        self.changes = dict.fromkeys(("set:A", "set:B", "guest:uuid-c"), 1)
        self.bodies = {}
        self.identity = {}
        self.told_ns = {}

    def teardown(self):
        for desk in [*self.crashed, self.desk]:
            desk.close()
        self.runner.close()
        self.store.close()
        self.folder.cleanup()

    def scopes(self):
        return {self.store.find(e).scope for e in self.ids()}

    def ids(self):
        return self.notice._ids[self.current.name] if self.current else []

    def states(self):
        return [self.store.find(e).state for e in self.ids()]

    def changed(self, scopes):
        for scope in scopes:
            self.changes[scope] += 1

    @precondition(lambda self: self.current is None and self.to_do)
    @rule()
    def announce(self):
        self.current, self.started = self.to_do.pop(0), False
        self.notice.announce(self.current)
        self.changed(self.scopes())

    @rule(name=NAMES, version=st.sampled_from(("2017-08-01", "2020-07-01")))
    def poll(self, name, version):
        member = self.desk.member(f"uuid-{name}", name)
        document = self.desk.document(member.scope, version)
        data = json.loads(document.body)
        assert data["DocumentIncarnation"] == self.changes[member.scope]
        key = (member.scope, version, document.incarnation)
        assert self.bodies.setdefault(key, document.body) == document.body
        for event in data["Events"]:
            told = (member.scope, tuple(event["Resources"]))
            assert self.identity.setdefault(event["EventId"], told) == told
            domains = {PLACES[resource][1] for resource in event["Resources"]}
            assert len(domains) == 1
            if event["NotBefore"]:
                at_ns = int(parsedate_to_datetime(event["NotBefore"]).timestamp()) * NS_PER_S
                assert self.told_ns.setdefault(event["EventId"], at_ns) == at_ns

    @rule(name=NAMES, choice=st.integers(0, 20))
    def approve(self, name, choice):
        known = [e.event.event_id for e in self.store.events()]
        event_id = known[choice % len(known)]
        member = self.desk.member(f"uuid-{name}", name)
        found = self.store.find(event_id)
        try:
            self.runner.run(self.desk.approve([event_id], member))
            assert found.scope == member.scope
            assert found.state is not State.PLANNED
        except EventError:
            assert found.scope != member.scope or found.state is State.PLANNED

    @precondition(lambda self: self.current is not None and not self.started)
    @rule(choice=st.integers(0, 3))
    def cancel(self, choice):
        event_id = self.ids()[choice % len(self.ids())]
        with Store(self.path, self.clock) as person:
            cancelled = person.cancel([event_id])
        if cancelled:
            self.changed([self.store.find(event_id).scope])

    @rule()
    def server_crashes(self):
        self.crashed.append(self.desk)
        self.desk = Desk(self.path, self.clock)

    @rule(seconds=st.floats(0, 120))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule(seconds=st.floats(-300, 300))
    def somebody_sets_the_clock(self, seconds):
        self.clock.step_realtime(seconds)

    @precondition(lambda self: self.current is not None and not self.started)
    @rule()
    def ask_for_permission(self):
        cancelled = State.CANCELLED in self.states()
        try:
            given = self.notice.wait(self.current, 0, cast(Any, FakeInterruption(self.clock)))
        except EventError:
            assert cancelled
            return
        assert not cancelled
        if not given:
            return
        self.started = True
        found = [self.store.find(e) for e in self.ids()]
        assert all(one.state is State.STARTED for one in found)
        if not all(one.approved_ns for one in found):
            assert self.clock.realtime_ns() >= max(one.event.not_before_ns for one in found)
        self.changed(self.scopes())

    @precondition(lambda self: self.current is not None)
    @rule()
    def over(self):
        visible = (State.SCHEDULED, State.STARTED)
        self.changed(
            {one.scope for one in map(self.store.find, self.ids()) if one.state in visible}
        )
        self.notice.over(self.current)
        self.notice.over(self.current)
        self.current = None


EXAMPLES = settings().max_examples * 6 // 10  # each is 40 steps
Events.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
test_any_interleaving_keeps_the_contract = Events.TestCase
