"""One update domain: what the update, libvirt, the guardian or another person may do to it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable

import pytest

from harness.checks.probes import PROBES
from harness.checks.probes.custom import OwnProbe
from harness.core.errors import (
    ConnectionLost,
    GuestStranded,
    HypervisorError,
    UpdateFailed,
    UpdateOverran,
)
from harness.core.records import Outcome
from harness.core.settings import Scope
from harness.core.timebase import SYSTEM_CLOCK, Deadline, NotYet, Stopwatch, wait_for
from harness.host.lifecycle import GuestState
from harness.host.protocol import EventKind
from harness.maintenance.progress import Phase, Step
from harness.results.unfinished import dead_runs
from harness.testing.hypervisor import pause_failure
from tests.maintenance.conftest import broken, events, of
from tests.maintenance.updates import Hooked, hanging, nothing, raising

REFUSED = HypervisorError("refused", operation="resuming", guest="web1")


def until_called(times: int, error: Exception) -> Callable[[], None]:
    """A hook that raises ``error`` so often, and then no more."""
    left = [error] * times

    def fail() -> None:
        if left:
            raise left.pop()

    return fail


def test_each_guests_own_probes_are_told_of_its_pause(house, monkeypatch):
    """Not of another's: at each edge the guest itself is as its probes are told."""
    told: dict[str, list[tuple[str, str]]] = {"web1": [], "web2": []}
    first = threading.Event()

    class Told(OwnProbe):
        """Writes down what it is told, and whether its guest runs just then."""

        def start(self, scene, deadline):
            self.name = scene.name
            super().start(scene, deadline)

        def note(self, edge):
            told[self.name].append((edge, at.host.states[self.name].value))
            if (self.name, edge) == ("web1", "paused"):
                first.set()

        def pausing(self):
            self.note("pausing")

        def paused(self):
            self.note("paused")

        def resuming(self):
            self.note("resuming")

    probes = tuple(Told if one is OwnProbe else one for one in PROBES)
    monkeypatch.setattr("harness.checks.probes.PROBES", probes)
    at = house("web1", "web2")
    at.host.before["pause", "web2"] = lambda: first.wait(5) and None  # well after the other's
    at.host.before["resume", "web2"] = lambda: until_running(at, "web1")
    assert at.maintain(spread=1).record.outcome is Outcome.PASS
    edges = [("pausing", "running"), ("paused", "paused"), ("resuming", "paused")]
    assert told == {"web1": edges, "web2": edges}


def until_running(at, name):
    """Return when the guest runs."""

    def look() -> None:
        if at.host.states[name] is not GuestState.RUNNING:
            raise NotYet(f"{name} is paused")

    wait_for(look, what="its resume", deadline=Deadline.after(5), interval_s=0.01)


def test_an_update_that_fails_is_rolled_back_and_the_guests_run(house):
    """The reason is in the record of the domain, and the outcome is no PASS."""
    at = house("web1")
    update = Hooked(raising(UpdateFailed("the patch does not fit", returncode=9)))
    record = at.maintain(update=update).record
    assert (record.outcome, record.exit_code) == (Outcome.ERROR, 3)
    assert record.update_domains[0].problems == ("the patch does not fit",)
    assert update.asked == ["prepare", "apply", "rollback"]
    assert of(record, "web1").outcome is Outcome.PASS
    assert at.running == ["web1"]


def test_an_update_that_overruns_is_abandoned_within_the_budget(house):
    """At the budget less the reserve, whether it ends or not."""
    at = house("web1")
    update = hanging()
    record = at.maintain(update=update, budget_s=2.0, resume_reserve_s=1.6).record
    assert "abandoned after 0.4 s" in record.update_domains[0].problems[0]
    assert {"abandon", "rollback"} <= set(update.asked)
    assert of(record, "web1").pause_window_s < 2.0
    assert record.update_domains[0].overhead_s < 1.6
    assert at.running == ["web1"]


def test_an_update_that_gives_up_by_itself_is_rolled_back(house):
    """As one that fails."""
    update = Hooked(raising(UpdateOverran("did not end within 2.5 s")))
    record = house("web1").maintain(update=update).record
    assert record.update_domains[0].problems == ("did not end within 2.5 s",)
    assert update.asked[-1] == "rollback"


def test_an_update_that_is_not_in_force_is_an_error_whatever_the_guests_say(house):
    """Verified when the guests run; every guest passed."""
    record = house("web1").maintain(update=Hooked(verify=raising(UpdateFailed("old")))).record
    assert record.update_domains[0].problems == ("old",)
    assert (record.outcome, of(record, "web1").outcome) == (Outcome.ERROR, Outcome.PASS)


def test_a_rollback_that_fails_is_told_beside_why_it_was_needed(house):
    """Both, in order."""
    update = Hooked(raising(UpdateFailed("broke")), rollback=raising(UpdateFailed("stays broken")))
    record = house("web1").maintain(update=update).record
    assert record.update_domains[0].problems == ("broke", "stays broken")


def test_where_one_guest_cannot_be_paused_the_update_is_not_applied(house):
    """The others are resumed, and nothing is rolled back that never began."""
    at = house()
    at.host.before["pause", "web2"] = pause_failure("web2")
    update = Hooked(scope=Scope.HOST)
    record = at.maintain(update=update).record
    assert update.asked == ["prepare"]
    assert "not every guest could be paused" in record.update_domains[0].problems[0]
    assert of(record, "web2").problems[0] == "web2: cannot be paused"
    assert of(record, "web1").outcome is Outcome.PASS
    assert at.running == ["web1", "web2"]


def test_a_guest_that_another_person_paused_just_before_is_never_resumed(house):
    """It is not ours, and it is not called stranded."""
    at = house("web1")
    at.host.states["web1"] = GuestState.RUNNING
    at.host.before["pause", "web1"] = lambda: at.host.states.update(web1=GuestState.PAUSED)
    finished = at.maintain(update=Hooked())
    assert ("resume", "web1") not in at.host.calls
    assert finished.record.exit_code == 3
    guest = of(finished.record, "web1")
    assert (guest.still_paused, guest.pause_window_s) == (False, None)
    assert "left alone" in broken(guest)["clock"]
    assert list(dead_runs(at.state_dir)) == []


def test_a_resume_that_fails_at_first_is_tried_again(house):
    """And what it took counts in the pause."""
    at = house("web1")
    at.host.before["resume", "web1"] = until_called(2, REFUSED)
    record = at.maintain().record
    assert record.outcome is Outcome.PASS
    assert of(record, "web1").pause_window_s >= 0.15


def test_a_window_beyond_its_budget_is_a_broken_promise(house):
    """Of the guest and of its domain; exit code 1."""
    at = house("web1")
    at.host.before["resume", "web1"] = until_called(8, REFUSED)
    record = at.maintain(budget_s=0.3, resume_reserve_s=0.1, update=Hooked()).record
    assert (record.outcome, record.exit_code) == (Outcome.FAIL, 1)
    assert set(broken(of(record, "web1"))) == {"pause-window"}
    assert "exceeds the budget of 0.3 s" in record.update_domains[0].problems[-1]


def test_a_guest_that_stays_paused_is_the_loudest_there_is(house):
    """Exit code 4, named, left to harness recover; the domain's other guest is looked after."""
    at = house()
    at.host.before["resume", "web1"] = raising(REFUSED)
    finished = at.maintain(update=Hooked(scope=Scope.HOST), resume_patience_s=0.3)
    assert isinstance(finished.error, GuestStranded)
    assert finished.error.guests == ("web1",)
    assert finished.record.exit_code == 4
    assert (of(finished.record, "web1").still_paused, at.running) == (True, ["web2"])
    assert of(finished.record, "web2").outcome is Outcome.PASS
    assert events(finished)[-1] == "run stranded"
    assert "disarm" not in at.guard.calls
    assert [dead.run_id for dead in dead_runs(at.state_dir)] == [finished.folder.run_id]


def test_where_no_guest_can_be_resumed_the_update_is_rolled_back_and_they_are_tried_again(house):
    """It may be why. Then the guardian is let go."""
    at = house("web1")
    rolling_back, refused = threading.Event(), threading.Event()

    def refuse() -> None:
        if rolling_back.is_set():
            refused.set()
        raise REFUSED

    def roll_back() -> None:
        """Be too late for the last of the first attempts, made as they are given up."""
        rolling_back.set()
        refused.wait(1.0)
        at.host.before["resume", "web1"] = nothing

    at.host.before["resume", "web1"] = refuse
    update = Hooked(raising(UpdateFailed("libvirtd does not start")), rollback=roll_back)
    record = at.maintain(update=update, resume_patience_s=1.6, budget_s=20.0).record
    assert update.asked == ["prepare", "apply", "rollback"]
    assert record.update_domains[0].problems == ("libvirtd does not start",)
    guest = of(record, "web1")
    assert (guest.still_paused, guest.outcome) == (False, Outcome.PASS)
    assert at.guard.calls[-1] == "disarm"
    assert at.running == ["web1"]


def test_a_rollback_that_does_not_help_leaves_the_guest_stranded(house):
    """And says so once."""
    at = house("web1")
    at.host.before["resume", "web1"] = raising(REFUSED)
    finished = at.maintain(update=Hooked(raising(UpdateFailed("x"))), resume_patience_s=0.2)
    assert finished.record.exit_code == 4
    assert of(finished.record, "web1").still_paused


def test_libvirt_that_comes_back_in_time_strands_no_guest(house):
    """It was away when the guest was to be resumed."""
    at = house("web1")

    def leave() -> None:
        at.host.away = True
        threading.Timer(0.3, setattr, (at.host, "away", False)).start()

    record = at.maintain(update=Hooked(leave), resume_patience_s=5.0).record
    assert record.outcome is Outcome.PASS
    assert 0.25 < of(record, "web1").pause_window_s < 3.0


def test_libvirt_that_stays_away_is_no_reason_to_call_a_guest_resumed(house):
    """Nobody saw it run: it counts as paused."""
    at = house("web1")
    update = Hooked(lambda: setattr(at.host, "away", True))
    finished = at.maintain(update=update, resume_patience_s=0.2)
    assert finished.record.exit_code == 4
    assert of(finished.record, "web1").still_paused


def test_a_guest_that_ends_in_the_pause_is_not_called_stranded(house):
    """There is nothing left of it to resume."""
    at = house("web1")
    update = Hooked(lambda: at.host.states.update(web1=GuestState.SHUT_OFF))
    finished = at.maintain(update=update)
    assert (finished.record.exit_code, finished.error) == (3, None)
    guest = of(finished.record, "web1")
    assert guest.still_paused is False
    assert "shut off" in guest.problems[0]


def test_a_guest_that_another_person_resumed_in_the_pause_is_left_as_it_is(house):
    """Also when it is paused again by then: that pause is not ours, but it is told, exit 4."""
    at = house("web1")
    uuid = at.guests[0].uuid
    soon = Deadline.after(60)

    def meddle() -> None:
        at.host.resume(uuid, soon)
        at.host.pause(uuid, soon)

    finished = at.maintain(update=Hooked(meddle))
    assert at.running == []
    guest = of(finished.record, "web1")
    assert guest.still_paused is True
    assert finished.record.exit_code == 4
    assert "another program" in guest.problems[0]
    assert "taken over" in events(finished)


def test_a_guest_that_is_paused_again_after_its_resume_is_told_of(house):
    """It ran, so it is not stranded; but it does not run now."""
    at = house("web1")
    uuid = at.guests[0].uuid

    class Meddling(list):
        def append(self, step: Step) -> None:
            if step.phase is Phase.CORRECTING:
                at.host.pause(uuid, Deadline.after(60))

    at.steps = Meddling()
    record = at.maintain(update=Hooked(), mend_timeout_s=0.6).record
    assert any("paused again: not by this run" in line for line in of(record, "web1").problems)
    assert record.exit_code == 3


def test_a_guest_that_ends_after_its_resume_is_said_to_be_lost(house):
    """Whatever its checks could not tell; the other one is as it was."""
    at = house("web1", "web2")

    class Crashing(list):
        def append(self, step: Step) -> None:
            if step.phase is Phase.CORRECTING:
                at.host.become("web1", GuestState.SHUT_OFF, EventKind.STOPPED)

    at.steps = Crashing()
    record = at.maintain(update=Hooked(), mend_timeout_s=0.6).record
    (said,) = of(record, "web1").problems
    assert "it ran when it was resumed, and has ended since (shut off" in said
    assert not of(record, "web1").still_paused
    assert of(record, "web2").problems == ()
    assert record.exit_code == 3


def test_what_cannot_be_kept_loses_no_verdict(house):
    """Raw samples are for whoever doubts; their folder is a file here."""
    at = house("web1")

    def spoil() -> None:
        (folder,) = (at.state_dir / "runs").iterdir()
        shutil.rmtree(folder / "guests")
        (folder / "guests").write_text("no folder")

    record = at.maintain(update=Hooked(spoil)).record
    assert of(record, "web1").outcome is Outcome.PASS
    assert any("cannot make" in problem for problem in record.update_domains[0].problems)


@pytest.mark.parametrize("clears", [True, False])
def test_while_the_run_is_held_up_its_guardian_resumes(house, clears):
    """The run's own call to libvirt hangs; the guardian's, over its own connection, does not."""
    at = house("web1")
    first, release = threading.Event(), threading.Event()

    def hang_once() -> None:
        if not first.is_set():
            first.set()
            release.wait(5)

    at.host.before["resume", "web1"] = hang_once
    if clears:
        threading.Timer(1.5, release.set).start()
    watch = Stopwatch()
    patience_s = 4.0 if clears else 1.3
    record = at.maintain(
        update=Hooked(),
        guardian=at.guarded,
        budget_s=1.5,
        resume_reserve_s=1.2,
        resume_patience_s=patience_s,
    ).record
    release.set()
    assert at.running == ["web1"]
    assert "guardian resumed" in record.update_domains[0].problems[0]
    assert record.update_domains[0].overhead_s is None
    guest = of(record, "web1")
    assert guest.still_paused is False
    assert guest.pause_window_s < 1.5
    assert watch.elapsed_s() < 10


def test_a_guardian_in_a_thread_is_armed_and_let_go_as_the_real_one(house):
    """It ends with the run, and writes no entry where it was not needed."""
    at = house("web1")
    finished = at.maintain(guardian=at.guarded)
    assert finished.record.outcome is Outcome.PASS
    assert "rescue" not in events(finished)
    assert "guardian" not in [thread.name for thread in threading.enumerate()]


def test_libvirt_that_breaks_while_a_guest_is_being_paused_may_have_paused_it(house):
    """So it is resumed all the same."""
    at = house("web1")

    def pause_and_break() -> None:
        at.host.before.clear()
        at.host.pause(at.guests[0].uuid, Deadline.after(60))
        raise ConnectionLost("broke", operation="pausing", guest="web1")

    at.host.before["pause", "web1"] = pause_and_break
    record = at.maintain(update=Hooked()).record
    assert at.running == ["web1"]
    assert record.exit_code == 3


EVENTS = {"checks__enable": ["libvirt-events"]}


def test_a_guest_that_is_woken_in_its_pause_is_told_of_by_libvirt(house):
    """It was paused again before the resume, so it is ours; its events are two too many."""
    at = house("web1")

    def wake() -> None:
        at.host.become("web1", GuestState.RUNNING, EventKind.RESUMED)
        at.host.become("web1", GuestState.PAUSED, EventKind.SUSPENDED)

    (check,) = of(at.maintain(update=Hooked(wake), **EVENTS).record, "web1").checks
    assert (check.outcome, check.allowed) == (Outcome.FAIL, "suspended, resumed")
    assert str(check.measured).startswith("suspended, resumed, suspended")


def test_events_that_may_be_missing_are_not_judged(house):
    """libvirtd was restarted by the update: nobody listened for a moment."""
    at = house("web1")

    def restart() -> None:
        at.host.listening_since_ns = SYSTEM_CLOCK.monotonic_ns()

    (check,) = of(at.maintain(update=Hooked(restart), **EVENTS).record, "web1").checks
    assert (check.outcome, "may be missing" in check.detail) == (Outcome.SKIP, True)
    at.host.listening_since_ns = 0
    (check,) = of(at.maintain(**EVENTS).record, "web1").checks
    assert (check.outcome, check.measured) == (Outcome.PASS, "suspended, resumed")
