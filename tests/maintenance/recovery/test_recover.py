"""Runs that died in the middle, and what harness recover makes of them."""

from __future__ import annotations

import pytest

from harness.core.errors import (
    ConnectionLost,
    HypervisorError,
    InfrastructureError,
    JournalError,
    ShellUnreachable,
)
from harness.core.identity import boot_id
from harness.core.records import Outcome
from harness.core.settings import Scope
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.host.lifecycle import GuestState
from harness.maintenance.guest_access import Login
from harness.maintenance.recovery.record import Action, RunRecovery
from harness.maintenance.recovery.recover import finish as complete
from harness.maintenance.recovery.recover import recover, rescue
from harness.maintenance.session import GuestSession
from harness.results.folder import RunFolder
from harness.results.journal import FILE_NAME, Journal, entries
from harness.results.unfinished import dead_runs
from harness.updates.protocol import HostUpdate
from tests.maintenance.conftest import House, of
from tests.maintenance.updates import Hooked, raising

REFUSED = HypervisorError("refused", operation="resuming")


class Killed(BaseException):
    """What ends this process, as far as the run's code can tell."""


def killed(
    at: House, *, paused: bool = True, update: HostUpdate | None = None, **changes
) -> RunFolder:
    """A run of all guests in one domain that was killed in the pause, and its folder.

    Without ``paused`` its guests were resumed, by its guardian say. ``update`` raises Killed.
    """
    names = [guest.name for guest in at.guests]
    if paused:
        for back in ("resume", "unpark old", "unpark new"):
            at.host.before.update({(back, name): raising(REFUSED) for name in names})
    update = update or Hooked(raising(Killed()), scope=Scope.HOST)
    with pytest.raises(Killed):
        at.maintain(update=update, resume_patience_s=0.1, **changes)
    SYSTEM_CLOCK.sleep(0.3)  # its threads, which would be gone as well, have given up by then
    at.host.before.clear()
    (folder,) = dead_runs(at.state_dir)
    return folder


def finish(at: House, folder: RunFolder, **changes) -> RunRecovery:
    """``harness recover`` of one run."""
    config = at.config(**changes)

    def log_in(uuid: str, deadline: Deadline) -> GuestSession:
        info = at.host.find(uuid, deadline)
        section = config.for_guest(info.name, info.uuid)
        login = Login(info, section, config.ssh, at.host, at.connector)
        return GuestSession.open(login, config.clock, deadline)

    return recover(
        folder,
        at.host,
        log_in,
        patience_s=config.resume_patience_s,
        deadline=Deadline.after(config.mend_timeout_s),
    )


def actions(recovered: RunRecovery) -> dict[str, Action]:
    """Guest → what was done about it."""
    return {one.member.name: one.action for one in recovered.guests}


def test_what_a_dead_run_left_paused_is_resumed_and_its_clock_corrected(house):
    """The record is completed as interrupted, with the pause that the journal tells of."""
    at = house()
    folder = killed(at)
    assert at.running == []
    assert folder.record().finished_at is None
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.RESUMED, "web2": Action.RESUMED}
    assert at.running == ["web1", "web2"]
    assert [one.clock_verdict for one in recovered.guests] == [Outcome.PASS] * 2
    assert all(abs(guest.offset_s) < 0.03 for guest in at.guests)
    record = folder.record()
    assert (record.exit_code, record.outcome) == (130, Outcome.ERROR)
    assert "process died" in record.problems[0]
    (domain,) = record.update_domains
    assert (domain.name, domain.guests) == ("host", ("web1", "web2"))
    guest = of(record, "web1")
    assert guest.clock.method == "relative-step"
    assert 0.1 < guest.pause_window_s <= domain.pause_window_s
    assert guest.problems == ("web1: resumed: was paused by this run",)
    assert list(dead_runs(at.state_dir)) == []


def test_once_more_does_no_harm(house):
    """Nothing is resumed that another person paused meanwhile, and what was judged stays."""
    at = house("web1")
    folder = killed(at)
    finish(at, folder)
    record = folder.record()
    at.host.states["web1"] = GuestState.PAUSED
    again = finish(at, folder)
    assert actions(again) == {"web1": Action.LEFT_ALONE}
    assert "is paused by another program" in again.guests[0].why
    assert again.paused == ["web1"]
    assert folder.record() == record


def test_guests_that_run_already_get_their_clocks_corrected(house):
    """The run, or its guardian, had resumed them and came no further."""
    at = house("web1")
    folder = killed(at, paused=False)
    assert at.running == ["web1"]
    at.guests[0].offset_s = -3.0
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.RUNS}
    assert abs(at.guests[0].offset_s) < 0.03
    assert folder.record().exit_code == 130


def test_a_guest_that_was_resumed_but_not_journalled_is_waited_for(house):
    """A pause that the dead run asked for last may be on its way; it runs on, and has been seen."""
    at = house("web1")
    folder = killed(at)
    at.host.resume("uuid-web1", None)
    recovered = finish(at, folder, resume_patience_s=5.0)
    assert actions(recovered) == {"web1": Action.RUNS}
    assert of(folder.record(), "web1").pause_window_s > 0


def test_after_a_reboot_of_the_host_nothing_is_resumed(house):
    """The guests of that boot are gone; who is paused now was paused by another."""
    at = house("web1")
    folder = killed(at)
    journal = folder.path / FILE_NAME
    journal.write_text(journal.read_text().replace(boot_id(), "another-boot"))
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.LEFT_ALONE}
    assert at.running == []
    assert of(folder.record(), "web1").pause_window_s is None


def test_a_guest_that_has_ended_is_said_to_have(house):
    """There is nothing of it left to resume, and no clock to correct."""
    at = house("web1")
    folder = killed(at)
    at.host.states["web1"] = GuestState.CRASHED
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.ENDED}
    assert recovered.guests[0].clock_verdict is None
    assert of(folder.record(), "web1").still_paused is False


def test_a_guest_in_a_state_that_is_not_our_pause_is_left_alone(house):
    """It put itself to sleep."""
    at = house("web1")
    folder = killed(at)
    at.host.states["web1"] = GuestState.SUSPENDED
    recovered = finish(at, folder)
    assert actions(recovered) == {"web1": Action.LEFT_ALONE}
    assert "which is no pause of a run" in recovered.guests[0].why


def test_a_guest_that_cannot_be_resumed_stays_on_the_list(house):
    """Exit code 4 in its record, and the run stays dead until somebody can; the next try tells."""
    at = house()
    folder = killed(at)
    at.host.before["resume", "web1"] = raising(REFUSED)
    recovered = finish(at, folder, resume_patience_s=0.2)
    assert recovered.stranded == ["web1"]
    assert actions(recovered)["web2"] is Action.RESUMED
    record = folder.record()
    assert record.exit_code == 4
    assert of(record, "web1").still_paused
    assert [dead.run_id for dead in dead_runs(at.state_dir)] == [folder.run_id]
    at.host.before.clear()
    assert finish(at, folder).stranded == []
    assert of(folder.record(), "web1").still_paused is False
    assert "harness recover: web1: resumed" in of(folder.record(), "web1").problems[-1]
    assert list(dead_runs(at.state_dir)) == []


def test_a_run_that_had_to_leave_guests_paused_keeps_its_verdicts(house):
    """It ended by itself, with exit code 4; who was paused is so no longer."""
    at = house()
    at.host.before["resume", "web1"] = raising(REFUSED)
    finished = at.maintain(update=Hooked(scope=Scope.HOST), resume_patience_s=0.2)
    at.host.before.clear()
    assert finished.record.exit_code == 4
    recovered = finish(at, finished.folder)
    assert actions(recovered)["web1"] is Action.RESUMED
    record = finished.folder.record()
    assert (of(record, "web1").still_paused, record.exit_code) == (False, 4)
    assert of(record, "web2") == of(finished.record, "web2")


def test_a_guest_that_ends_while_it_is_being_resumed_has_ended(house):
    """Not stranded."""
    at = house("web1")
    folder = killed(at)
    at.host.before["resume", "web1"] = lambda: at.host.states.update(web1=GuestState.SHUT_OFF)
    assert actions(finish(at, folder)) == {"web1": Action.ENDED}


def test_libvirt_that_goes_away_meanwhile_has_seen_no_guest_run(house):
    """So the guest is called still paused."""
    at = house("web1")
    folder = killed(at)

    def refuse() -> None:
        at.host.away = True
        raise REFUSED

    at.host.before["resume", "web1"] = refuse
    recovered = finish(at, folder, resume_patience_s=0.2)
    assert recovered.stranded == ["web1"]


def test_without_libvirt_nothing_is_finished(house):
    """The run stays dead; its record stays as it was."""
    at = house("web1")
    folder = killed(at)
    at.host.away = True
    recovered = finish(at, folder)
    assert isinstance(recovered.error, ConnectionLost)
    assert actions(recovered) == {"web1": Action.UNSEEN}
    assert folder.record().finished_at is None
    assert list(dead_runs(at.state_dir)) != []


def test_a_guest_that_lets_nobody_in_is_resumed_all_the_same(house):
    """Its clock could not be looked at, which is told."""
    at = house("web1")
    folder = killed(at)
    at.connector.before["web1"] = raising(ShellUnreachable("refused", guest="web1"))
    (one,) = finish(at, folder).guests
    assert (one.action, one.clock_verdict, one.problem) == (
        Action.RESUMED,
        Outcome.ERROR,
        "web1: refused; tried: web1.example (DHCP lease)",
    )
    assert (
        of(folder.record(), "web1").problems[-1]
        == "web1: refused; tried: web1.example (DHCP lease)"
    )


def test_a_clock_that_may_not_stay_right_is_no_pass(house):
    """chronyd was not told of the step: a doubt, as in a run."""
    at = house("web1")
    folder = killed(at)
    at.guests[0].time_daemon = "chronyd"
    at.guests[0].chronyc_refuses = True
    (one,) = finish(at, folder).guests
    assert one.clock_verdict is Outcome.ERROR
    assert "may undo it" in one.problem


def test_a_clock_that_could_not_be_corrected_is_judged_as_it_is(house):
    """Correction switched off: it is as slow as the pause was long."""
    at = house("web1")
    folder = killed(at)
    (one,) = finish(at, folder, clock__correct=False).guests
    assert (one.clock_verdict, one.problem) == (Outcome.FAIL, "correction is switched off")


def test_a_guest_that_falls_silent_after_its_login_could_not_be_judged(house):
    """No reading, no verdict."""
    at = house("web1")
    folder = killed(at)
    at.guests[0].silent_after_asks = 6  # login, channel, agent: which, hello, a reading, facts
    (one,) = finish(at, folder, prepare_timeout_s=1.0).guests
    assert one.clock_verdict is Outcome.ERROR
    assert one.clock.at_end is None


def test_a_run_that_is_still_going_on_is_none_of_our_business(house):
    """Its process holds the lock on the journal."""
    at = house("web1")
    folder = killed(at)
    with Journal(folder.path, folder.run_id), pytest.raises(JournalError, match="another process"):
        finish(at, folder)
    assert at.running == []


def test_a_run_whose_end_cannot_be_written_down_stays_dead(house):
    """Its guests run; the next recovery finds it again."""
    at = house("web1")
    folder = killed(at)

    class Full(Journal):
        def intend(self, entry):
            if isinstance(entry, entries.Recovered):
                raise JournalError("no space left on device")
            super().intend(entry)

    def log_in(uuid, deadline):
        raise ShellUnreachable("refused", guest="web1")

    with Full(folder.path, folder.run_id) as journal:
        found = rescue(folder, journal, at.host, patience_s=5.0)
        finished = complete(found, journal, log_in, Deadline.after(5))
    assert at.running == ["web1"]
    assert isinstance(finished.error, JournalError)
    assert [run.path for run in dead_runs(at.state_dir)] == [folder.path]


def test_a_run_whose_record_cannot_be_written_stays_dead(house):
    """Its guests run, and why it is not finished is told."""
    at = house("web1")
    path = killed(at).path

    class Full(RunFolder):
        def write_record(self, record):
            raise InfrastructureError("no space left on device")

    recovered = finish(at, Full(path))
    assert actions(recovered) == {"web1": Action.RESUMED}
    assert isinstance(recovered.error, InfrastructureError)
    assert [run.path for run in dead_runs(at.state_dir)] == [path]


def test_a_run_that_died_before_it_paused_anybody_is_completed(house):
    """With no guests and no domain."""
    at = house("web1")
    with pytest.raises(Killed):
        at.maintain(update=Hooked(prepare=raising(Killed())))
    (folder,) = dead_runs(at.state_dir)
    assert finish(at, folder).guests == ()
    record = folder.record()
    assert (record.exit_code, record.guests, record.update_domains) == (130, (), ())
    assert list(dead_runs(at.state_dir)) == []


def test_what_a_dead_run_had_judged_already_stays(house):
    """It died in its second domain: the first one's verdicts are kept, beside what is added."""
    at = house()
    (state,) = [at.state_dir]
    domains = []

    def second() -> None:
        domains.append(1)
        if len(domains) == 2:
            raise Killed

    with pytest.raises(Killed):
        at.maintain(update=Hooked(second))
    (folder,) = dead_runs(state)
    first = of(folder.record(), "web1")
    recovered = finish(at, folder)
    assert set(actions(recovered)) == {"web1", "web2"}
    record = folder.record()
    assert of(record, "web1") == first
    assert [domain.name for domain in record.update_domains] == ["web1", "web2"]
    assert [domain.outcome for domain in record.update_domains] == [Outcome.PASS, Outcome.ERROR]
