"""A run waits for its guests: both ways of a run's notice, and what the wait may never do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import NOT_NOW, EventError, Interrupted, WindowClosed, rollout_exit_code
from harness.core.settings import AvailabilitySetSection, Config, EventsSection
from harness.core.signals import Interruption
from harness.core.timebase import NS_PER_S, Deadline
from harness.events.announcer import EventNotice
from harness.events.document import State
from harness.events.membership import memberships
from harness.events.store import Store
from harness.host.lifecycle import GuestState
from harness.maintenance.notice import Unannounced
from harness.maintenance.plan import PlanRules, make_plan
from harness.testing.clock import FakeClock
from harness.testing.hypervisor import FakeHypervisor
from harness.testing.updates import Meddling

GUEST = {"guest": ({"name": "web1", "availability_set": "web"}, {"name": "solo"})}


class Waiting(Interruption):
    """An interruption whose pauses cost no time but the fake clock's."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock
        self.pauses = 0
        self.after = {}

    def pause(self, seconds):
        self.pauses += 1
        self.after.pop(self.pauses, lambda: None)()
        self._clock.advance(seconds)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def waiting(clock):
    with Waiting(clock) as one:
        yield one


@pytest.fixture
def store(tmp_path, clock):
    with Store(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def others(tmp_path, clock):
    """The store as another process has it."""
    with Store(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def make(store, clock, tmp_path):
    """A notice that has begun, and its plan; both guests share the domain 0."""

    def build(notice_s=20.0, sets=(), **more):
        config = Config.model_validate(
            {"guest": tuple({"update_domain": "0", **g} for g in GUEST["guest"])}
        )
        events = EventsSection(notice_s=notice_s)
        config = config.model_copy(update={"events": events, "availability_set": sets})
        hypervisor = FakeHypervisor(dict.fromkeys(("web1", "solo"), GuestState.RUNNING), clock)
        guests = hypervisor.guests(Deadline.after(1))
        plan = make_plan(PlanRules.of(config), guests, Meddling())
        known = partial(memberships, config.guest, guests)
        notice = EventNotice(store, events, sets, known, duration_s=4.2, clock=clock, **more)
        journal: Any = SimpleNamespace(note=lambda *_, **__: None)
        notice.begin(plan, tmp_path, journal)
        return notice, plan.domains[0]

    return build


@pytest.fixture(params=["unannounced", "events"])
def either(request, make, tmp_path):
    """Every implementation of the protocol."""
    notice, domain = make()
    return (Unannounced() if request.param == "unannounced" else notice), domain


def test_every_notice_gives_permission_in_the_end(either, waiting):
    """And may be asked to end twice, and for a domain that never came."""
    notice, domain = either
    said = notice.announce(domain)
    assert isinstance(said, str)
    assert notice.wait(domain, 30, waiting) is True
    for _ in range(2):
        notice.over(domain)
        notice.over(replace(domain, name="never"))
        notice.close()
    record = notice.record(domain.name)
    assert record is None or record.removed_at is not None
    assert notice.record("never") is None


def test_it_waits_for_the_time_that_it_said(make, waiting, clock, store):
    """Not earlier by the wall clock, and by the whole notice."""
    notice, domain = make()
    began_ns = clock.monotonic_ns()
    notice.announce(domain)
    assert notice.wait(domain, 30, waiting)
    (one, two) = store.events(State.STARTED)
    assert clock.realtime_ns() >= one.event.not_before_ns == two.event.not_before_ns
    assert clock.monotonic_ns() - began_ns >= 20 * NS_PER_S
    assert one.event.not_before_ns % NS_PER_S == 0


def test_it_begins_when_every_event_of_the_domain_is_approved(make, waiting, clock, others):
    """One set's approval is not the other's."""
    notice, domain = make(900.0)
    notice.announce(domain)
    solo, web = (one.event.event_id for one in others.events())
    others.approve([web], "web1")
    assert not notice.wait(domain, 0, waiting)
    waiting.after[waiting.pauses + 3] = lambda: others.approve([solo], "solo")
    assert notice.wait(domain, 30, waiting)
    assert clock.realtime_ns() < others.events()[0].event.not_before_ns
    record = notice.record(domain.name)
    assert record.approved_by == ("solo", "web1")
    assert record.approved_at <= record.started_at < record.not_before


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_set_makes_no_pause_come_early(make, waiting, clock, store, seconds):
    """The notice is counted on a clock that nobody can set, and by the one that guests read."""
    notice, domain = make()
    began_ns = clock.monotonic_ns()
    notice.announce(domain)
    clock.step_realtime(seconds)
    if seconds < 0:
        waiting.after[2000] = lambda: clock.step_realtime(-seconds)
    assert notice.wait(domain, 30, waiting)
    assert clock.monotonic_ns() - began_ns >= 20 * NS_PER_S
    assert clock.realtime_ns() >= store.events()[0].event.not_before_ns


def test_who_waits_long_is_let_go_to_take_new_baselines_but_not_shortly_before(
    make, waiting, clock
):
    """False after the seconds that were asked for, while there is time."""
    notice, domain = make(60.0)
    notice.announce(domain)
    assert notice.wait(domain, 30, waiting) is False
    assert notice.wait(domain, 25, waiting) is True


def test_a_signal_ends_the_wait_and_the_event(make, waiting, store):
    """Nobody is paused, and the guests see it gone."""
    notice, domain = make(900.0)
    notice.announce(domain)
    waiting.after[5] = lambda: waiting.request("SIGINT")
    with pytest.raises(Interrupted):
        notice.wait(domain, 30, waiting)
    notice.over(domain)
    assert {one.state for one in store.events()} == {State.CANCELLED}
    assert store.snapshot("set:web").incarnation == 3


def test_a_person_may_cancel_it(make, waiting, others):
    """The other set's event goes with it."""
    notice, domain = make(900.0)
    notice.announce(domain)
    waiting.after[5] = lambda: others.cancel([others.events()[1].event.event_id])
    with pytest.raises(EventError, match="of availability set web was cancelled"):
        notice.wait(domain, 30, waiting)
    notice.over(domain)
    assert others.events(State.SCHEDULED, State.STARTED) == []


def test_a_server_that_dies_while_we_wait_is_started_again(make, waiting):
    """Now and then it is looked after; that it fails is not the guests' fault."""
    calls = []

    def keep():
        calls.append(1)
        if len(calls) > 1:
            raise EventError("no server")

    notice, domain = make(keep_served=keep)
    notice.announce(domain)
    assert notice.wait(domain, 30, waiting)
    assert len(calls) > 5


def test_outside_its_window_a_set_is_not_told(make, store):
    """The refusal says when it opens; nothing was announced. The clock says Friday 2027-01-15."""
    section = AvailabilitySetSection(name="web", days=("sat",), hours="02:00-05:00")
    notice, domain = make(sets=(section,))
    with pytest.raises(WindowClosed, match="opens Saturday 2027-01-16 02:00 UTC") as refused:
        notice.announce(domain)
    assert rollout_exit_code(refused.value) == NOT_NOW
    notice.close()
    assert {one.state for one in store.events()} == {State.CANCELLED}
    assert store.snapshot("set:web").incarnation == 1


def test_an_approval_before_the_window_opens_waits_for_that(make, waiting, store, clock):
    """It opens at 08:10, the notice is for 08:15, and all approve at once."""
    section = AvailabilitySetSection(name="web", hours="08:10-09:00")
    notice, domain = make(900.0, sets=(section,))
    notice.announce(domain)
    for one in store.events(State.SCHEDULED):
        store.approve([one.event.event_id], by="web1")
    began_ns = clock.realtime_ns()
    assert notice.wait(domain, 3600, waiting)
    assert 600 * NS_PER_S <= clock.realtime_ns() - began_ns < 900 * NS_PER_S


def test_a_window_that_closes_before_it_is_noticed_that_it_is_due_pauses_nobody(
    make, waiting, store, clock
):
    """The host slept, or baselines took long."""
    section = AvailabilitySetSection(name="web", hours="07:00-08:01")
    notice, domain = make(20.0, sets=(section,))
    notice.announce(domain)
    clock.advance(3600)
    with pytest.raises(WindowClosed):
        notice.wait(domain, 30, waiting)
    notice.over(domain)
    assert store.events(State.SCHEDULED, State.STARTED) == []


def test_the_first_domain_may_have_a_later_time(make, clock, store):
    """That of a maintenance that was scheduled."""
    later_ns = clock.realtime_ns() + 3600 * NS_PER_S
    notice, domain = make(not_before_ns=later_ns)
    notice.announce(domain)
    assert store.events()[0].event.not_before_ns == later_ns
