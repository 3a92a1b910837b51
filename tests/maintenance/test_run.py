"""A whole maintenance, from the plan to the record, and everything that ends one early."""

from __future__ import annotations

import os
import signal
from typing import get_args

import pytest

from harness.clock.arithmetic import size
from harness.core.errors import (
    EventError,
    GuardianLost,
    HostBusy,
    InfrastructureError,
    Interrupted,
    ProbeError,
    ShellUnreachable,
    UpdateFailed,
)
from harness.core.records import NoticeRecord, Outcome
from harness.core.settings import CheckName, Scope
from harness.host.lock import host_lock
from harness.maintenance.notice import Unannounced
from harness.maintenance.progress import Phase, Step
from harness.maintenance.run import run
from harness.maintenance.survey import survey
from harness.results.history.figures import CHECK_UNITS
from harness.results.journal import FILE_NAME, in_use
from harness.results.unfinished import dead_runs
from tests.maintenance.conftest import events, of, verdicts
from tests.maintenance.updates import Hooked, hanging, raising


def test_a_clock_put_back_to_its_old_offset_keeps_the_doubt_of_both_readings(house):
    """--restore-offset: the target is a reading too, so the verdict is no surer than both.

    Before the pause the guest was far away, and in the pause it came near.
    """
    at = house("web1")
    at.guests[0].way_s = 0.004

    def near() -> None:
        at.guests[0].way_s = 0.0

    record = at.maintain(update=Hooked(near), clock__restore_offset=True).record
    guest = of(record, "web1")
    doubts = [one.uncertainty_s for one in (guest.clock.before, guest.clock.after_correction)]
    assert doubts[0] > 0.0039 > doubts[1]
    found = {check.name: check for check in guest.checks}["clock"]
    assert f"± {size(sum(doubts))}" in found.detail


def test_connections_are_there_before_the_first_pause(house, monkeypatch):
    """One for each guest of the update domain: none has to be opened while they are paused."""
    at = house("web1", "web2", update__scope="host")
    found: list[tuple[int, list[str]]] = []
    monkeypatch.setattr(at.host, "ready", lambda calls, until: found.append((calls, at.running)))
    at.maintain()
    assert (2, ["web1", "web2"]) in found


def test_a_maintenance_of_two_domains_passes_and_says_what_it_measured(house):
    """Each guest was paused, lagged by that, was stepped, and is right within its tolerance."""
    at = house()
    finished = at.maintain()
    record = finished.record
    assert (finished.error, record.outcome, record.exit_code) == (None, Outcome.PASS, 0)
    assert [domain.name for domain in record.update_domains] == ["web1", "web2"]
    for name in ("web1", "web2"):
        guest = of(record, name)
        assert set(verdicts(guest).values()) == {"pass"}
        assert guest.clock.method == "relative-step"
        assert guest.clock.after_resume.offset_s < -0.04
        assert abs(guest.clock.after_correction.offset_s) < 0.03
        assert 0.05 <= guest.pause_inner_s <= guest.pause_window_s < 3.0
        assert guest.stale_clock_window_s > 0
    assert at.running == ["web1", "web2"]
    assert events(finished)[-1] == "run finished"
    assert finished.folder.record() == record
    assert not in_use(finished.folder.path / FILE_NAME)
    assert all(shell.closed for shell in at.connector.opened)


def test_whoever_watches_is_told_each_step_and_never_while_a_guest_is_paused(house):
    """In order, with the guests that it concerns; one soak lies between two domains."""
    at = house()
    paused_meanwhile: list[str] = []

    class Watching(list):
        def append(self, step: Step) -> None:
            paused_meanwhile.extend(guest.name for guest in at.guests if guest.paused)
            super().append(step)

    at.steps = Watching()
    at.maintain(soak_s=0.05)
    after = [Phase.CORRECTING, Phase.CORRECTED, Phase.CHECKED]
    domain = [Phase.PREPARING, Phase.PAUSED, *after]
    wanted = [Phase.PREPARING, Phase.READY, *domain, Phase.SOAKING, *domain]
    assert [step.phase for step in at.steps] == wanted
    assert at.steps[2].guests == ("web1",)
    assert paused_meanwhile == []


def test_a_terminal_that_went_away_changes_nothing(house):
    """An OSError of the observer is its own business."""
    at = house("web1")
    update = at.config().update
    assert update.kind == "stand-in"

    class Gone(list):
        def append(self, step: Step) -> None:
            raise BrokenPipeError

    at.steps = Gone()
    assert at.maintain().record.outcome is Outcome.PASS


def test_a_host_that_is_taken_is_left_alone(house):
    """By whoever has the lock; there is no run at all."""
    at = house("web1")
    with host_lock(at.host.uri, "flashing the BMC"), pytest.raises(HostBusy, match="flashing"):
        at.maintain()
    assert at.host.calls == []
    assert not (at.state_dir / "runs").exists()


def test_where_no_run_folder_can_be_made_nothing_is_paused(house):
    """The journal has to come before the pause."""
    at = house("web1")
    at.state_dir.write_text("no folder")
    with pytest.raises(InfrastructureError, match="nothing was paused"):
        at.maintain(update=Hooked())
    assert at.host.calls == []


def test_one_login_that_is_refused_ends_the_run_before_anybody_is_paused(house):
    """The others' connections are closed; it is in the record, and nothing is left to recover."""
    at = house()
    at.connector.before["web2"] = raising(ShellUnreachable("refused", guest="web2"))
    finished = at.maintain()
    assert isinstance(finished.error, ShellUnreachable)
    assert (finished.record.outcome, finished.record.exit_code) == (Outcome.ERROR, 3)
    assert finished.record.problems == ("web2: refused; tried: web2.example (DHCP lease)",)
    assert [shell.closed for shell in at.connector.opened] == [True]
    assert at.host.calls == []
    assert list(dead_runs(at.state_dir)) == []


def test_a_guest_whose_clock_cannot_be_read_ends_the_run_before_the_pause(house):
    """What cannot be measured afterwards is not begun."""
    at = house("web1")
    at.guests[0].agent_nonsense = True
    finished = at.maintain()
    assert isinstance(finished.error, ProbeError)
    assert at.host.calls == []
    assert at.connector.opened[0].closed


def test_without_a_guardian_nothing_is_paused(house):
    """One that does not answer is none."""
    at = house("web1")
    at.guard.silent = True
    finished = at.maintain()
    assert isinstance(finished.error, GuardianLost)
    assert finished.record.exit_code == 3
    assert at.host.calls == []
    assert list(dead_runs(at.state_dir)) == []


def test_an_update_that_cannot_be_prepared_pauses_nobody(house):
    """Everything that can fail fails before."""
    at = house("web1")
    update = Hooked(prepare=raising(UpdateFailed("no such package")))
    finished = at.maintain(update=update)
    assert finished.record.problems == ("no such package",)
    assert update.asked == ["prepare"]
    assert at.host.calls == []


def test_after_a_domain_that_is_not_healthy_the_others_are_left_alone(house):
    """Told, recorded as skipped, and never touched."""
    at = house()
    at.guests[0].after_resume = "rebooted"
    record = at.maintain().record
    assert (record.outcome, record.exit_code) == (Outcome.FAIL, 1)
    assert [domain.outcome for domain in record.update_domains] == [Outcome.FAIL, Outcome.SKIP]
    assert of(record, "web2").outcome is Outcome.SKIP
    assert "left alone" in record.update_domains[1].problems[0]
    assert ("pause", "web2") not in at.host.calls
    assert at.steps[-1].phase is Phase.LEFT_ALONE


def test_a_signal_in_the_pause_gives_the_update_up_and_not_the_guests(house):
    """Exit code 130, everything resumed, the next domain not begun, nothing to recover."""
    at = house()
    update = hanging(lambda: os.kill(os.getpid(), signal.SIGTERM))
    finished = at.maintain(update=update)
    assert isinstance(finished.error, Interrupted)
    assert finished.record.exit_code == 130
    assert "abandon" in update.asked
    assert at.running == ["web1", "web2"]
    assert ("pause", "web2") not in at.host.calls
    assert "SIGTERM" in finished.record.update_domains[0].problems[0]
    assert list(dead_runs(at.state_dir)) == []


def test_a_signal_before_the_pause_pauses_nobody(house):
    """Asked between domains, and right before the pause."""
    at = house("web1")

    def ask() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    finished = at.maintain(update=Hooked(prepare=ask))
    assert (finished.record.exit_code, at.host.calls) == (130, [])
    at.connector.before["web1"] = ask
    assert at.maintain().record.exit_code == 130
    assert at.host.calls == []


def test_the_death_of_the_guardian_gives_the_update_up(house):
    """Nobody would resume the guests if we died as well."""
    at = house("web1")
    update = hanging(at.guard.die)
    finished = at.maintain(update=update)
    assert "guardian died" in finished.record.update_domains[0].problems[0]
    assert finished.record.outcome is Outcome.ERROR
    assert at.running == ["web1"]


def test_a_record_that_cannot_be_written_is_told_all_the_same(house):
    """A disk that fails in the pause loses no verdict: the record comes back with the reason."""
    at = house("web1")

    def spoil() -> None:
        (folder,) = (at.state_dir / "runs").iterdir()
        (folder / "run.json").unlink()
        (folder / "run.json").mkdir()

    finished = at.maintain(update=Hooked(spoil))
    assert isinstance(finished.error, InfrastructureError)
    assert of(finished.record, "web1").outcome is Outcome.PASS
    assert finished.record.exit_code == 3


def test_a_report_for_ci_that_cannot_be_written_is_a_line_in_the_log(house, caplog):
    """The maintenance is what counts."""
    at = house("web1")

    def spoil() -> None:
        (folder,) = (at.state_dir / "runs").iterdir()
        (folder / "junit.xml").unlink()
        (folder / "junit.xml").mkdir()

    assert at.maintain(update=Hooked(spoil)).record.outcome is Outcome.PASS
    assert "junit.xml" in caplog.text


def test_a_host_whose_own_clock_is_not_synchronised_is_a_warning(house, monkeypatch):
    """Guests are measured against it as it is."""
    monkeypatch.setattr("harness.maintenance.run_record.synchronised", lambda: False)
    assert any("not synchronised" in line for line in house("web1").maintain().record.warnings)
    monkeypatch.setattr("harness.maintenance.run_record.synchronised", lambda: None)
    assert house("web1").maintain().record.warnings == ()


class Bell(Unannounced):
    """A notice that is approved when it has been asked twice."""

    def __init__(self, *, refuses: Exception | None = None) -> None:
        self.refuses = refuses
        self.heard: list[str] = []

    def begin(self, plan, run_dir, journal) -> None:
        self.heard.append("begin")

    def announce(self, domain) -> str:
        self.heard.append("announce")
        return "web1 was told"

    def wait(self, domain, seconds, interruption) -> bool:
        self.heard.append("wait")
        if self.refuses is not None:
            raise self.refuses
        return self.heard.count("wait") > 1

    def over(self, domain) -> None:
        self.heard.append("over")

    def close(self) -> None:
        self.heard.append("close")

    def record(self, domain_name) -> NoticeRecord | None:
        return None


def test_guests_are_told_and_waited_for_with_baselines_taken_anew(house):
    """The last baseline is the one that counts."""
    at = house("web1")
    bell = Bell()
    assert at.maintain(notice=bell, clock__watch_s=0.01).record.outcome is Outcome.PASS
    assert bell.heard == ["begin", "announce", "wait", "wait", "over", "close"]
    assert Step(Phase.WAITING, "web1 was told", "web1", ("web1",)) in at.steps
    marks = [line for line in at.guests[0].kernel_log if "harness: mark" in line]
    assert len(marks) == 2


def test_an_announcement_that_is_cancelled_pauses_nobody(house):
    """And the guests see that it is over."""
    at = house("web1")
    bell = Bell(refuses=EventError("cancelled by web1"))
    finished = at.maintain(notice=bell)
    assert finished.record.problems == ("cancelled by web1",)
    assert bell.heard[-2:] == ["over", "close"]
    assert at.host.calls == []


def test_all_guests_of_the_host_pause_together_where_the_update_needs_that(house):
    """One domain, one window; the domain's duration holds both guests'."""
    at = house()
    record = at.maintain(update=Hooked(scope=Scope.HOST)).record
    (domain,) = record.update_domains
    assert (record.outcome, domain.guests) == (Outcome.PASS, ("web1", "web2"))
    assert record.update.returncode == 0
    assert all(guest.pause_window_s <= domain.pause_window_s for guest in record.guests)


def test_the_real_guardian_is_what_a_run_takes_by_default(house):
    """On a host that it cannot reach it says so, and nothing is paused."""
    at = house("web1")
    config, update = at.config(), Hooked()

    plan = survey(config, ["web1"], at.host, update)
    finished = run(config, plan, update, at.host, at.connector, state_dir=at.state_dir)
    assert isinstance(finished.error, GuardianLost)
    assert at.host.calls == []


def test_the_history_knows_what_each_check_measures_in(house):
    """The figures ``check.NAME`` are stored without their unit."""
    at = house("web1")
    (guest,) = at.maintain("web1").record.guests
    measured = {one.name: one.unit for one in guest.checks if isinstance(one.measured, float)}
    assert measured
    assert measured.items() <= CHECK_UNITS.items()
    assert set(CHECK_UNITS) <= set(get_args(CheckName))
