"""Rehearsals shorten the notice and nothing else: what clients must react to lasts as it would."""

from __future__ import annotations

import pytest

from harness.core.signals import Interruption
from harness.events.document import State
from harness.events.scenarios import SCENARIOS, Rehearsal
from harness.events.schema import Member
from harness.events.store import Store
from harness.testing.clock import FakeClock


class Passing(Interruption):
    """Time passes where a rehearsal waits; ``seen``: how long each state was there to be seen."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        super().__init__()
        self.store, self.clock = store, clock
        self.seen: dict[State, float] = {}

    def check(self):
        pass

    def pause(self, seconds):
        for event in self.store.events():
            if event.state in (State.SCHEDULED, State.STARTED):
                self.seen[event.state] = self.seen.get(event.state, 0.0) + seconds
        self.clock.advance(seconds)


@pytest.fixture
def play(tmp_path):
    clock = FakeClock()
    with Store(tmp_path, clock) as store:
        store.enrol([Member("u", "web1", "guest:u")])
        passing = Passing(store, clock)

        def scenario(name, **more):
            Rehearsal(store, passing, lambda line: None, clock=clock, **more).play(name, "web1")
            (stored,) = store.events()
            return passing.seen, stored.event

        yield scenario


@pytest.mark.parametrize("name", [name for name, one in SCENARIOS.items() if not one.cancelled])
@pytest.mark.parametrize("time_scale", [90.0, 900.0])
def test_started_lasts_as_in_earnest_however_much_the_notice_is_shortened(play, name, time_scale):
    """A client that polls each second has to see it."""
    seen, event = play(name, time_scale=time_scale)
    scenario = SCENARIOS[name]
    assert seen[State.STARTED] == pytest.approx(scenario.impact_s)
    assert event.duration_s == scenario.impact_s
    if not scenario.at_once:
        wanted_s = scenario.notice_s / time_scale
        assert wanted_s - 0.001 <= seen[State.SCHEDULED] <= wanted_s + 1.1


def test_the_impact_has_an_option_of_its_own(play):
    """For who is in a hurry; guests are told of the duration that it has."""
    seen, event = play("host-maintenance", time_scale=60.0, impact_s=2.0)
    assert seen[State.STARTED] == pytest.approx(2.0)
    assert event.duration_s == 2.0
