"""Guests whose QEMU is replaced in the window: wherever it ends, each is back with its own RAM."""

from __future__ import annotations

import threading

import pytest

from harness.core.errors import (
    DeadlineExpired,
    HypervisorError,
    TakenOver,
    UpdateFailed,
    UpdateOverran,
    WrongState,
)
from harness.core.fanout import Answer
from harness.core.signals import Interruption
from harness.core.timebase import SYSTEM_CLOCK, Deadline, NotYet
from harness.host.lifecycle import GuestState
from harness.host.parking import Berth, Parking
from harness.host.protocol import EventKind, ProcessIdentity
from harness.maintenance.pause.resume import Resumed, resume_all
from harness.maintenance.pause.stranded import still_paused
from harness.maintenance.pause.swap import Swap
from harness.maintenance.pause.takeover import PauseEdge
from harness.maintenance.pause.terms import Limits, UpdateCalls
from harness.maintenance.pause.unparking import Return
from harness.maintenance.pause.window import hold_window
from harness.results.journal import Custody, Entry, Journal, Member, ToDo, entries, fold, read
from harness.testing.clock import FakeClock
from harness.testing.guard import FakeGuard
from harness.testing.hypervisor import FakeHypervisor
from harness.updates.protocol import Applied, SwapPlan

RUNNING, PAUSED, GONE = GuestState.RUNNING, GuestState.PAUSED, GuestState.GONE
FIRST = ProcessIdentity(7, 7)


def parking(name: str, *, persistent: bool = False) -> Parking:
    return Parking(
        name=name,
        uuid=f"uuid-{name}",
        persistent=persistent,
        keep=f"/ram/harness-keep/uuid-{name}",
        files=f"/files/uuid-{name}",
        ram_folder="/ram",
        short_name=name,
        ram={"pc.ram": "1:2"},
        commands=f"/commands/uuid-{name}",
        highest_id=3,
    )


def refuse(*names: str):
    """A ``before`` hook: QEMU says no."""

    def no() -> None:
        raise HypervisorError("machine type not supported", operation="unparking")

    return no


class Bench:
    """A window over guests whose QEMU is replaced."""

    def __init__(self, folder, *names: str) -> None:
        self.hypervisor = FakeHypervisor(dict.fromkeys(names, RUNNING))
        self.hypervisor.processes = {name: FIRST for name in names}
        self.parked = self.hypervisor.parking
        self.members = [Member(name, f"uuid-{name}") for name in names]
        self.journal = Journal(folder, "run")
        self.swap = Swap(self.hypervisor, self.journal)
        self.swap.prepare([SwapPlan(parking(name), {}, {}) for name in names])
        self.errors: dict[str, str] = {}

    def apply(self, deadline: Deadline) -> Applied:
        for member in self.members:
            try:
                self.swap.swap(parking(member.name), deadline)
            except UpdateFailed as error:
                self.errors[member.name] = str(error)
        if self.errors:
            raise UpdateFailed("; ".join(self.errors.values()))
        return Applied(0)

    def hold(self, budget_s: float = 30.0, patience_s: float = 5.0):
        with Interruption() as interruption, self.journal:
            return hold_window(
                self.members,
                UpdateCalls(self.apply, lambda: None, quiesce=self.swap.quiesce),
                hypervisor=self.hypervisor,
                journal=self.journal,
                interruption=interruption,
                guard=FakeGuard(),
                limits=Limits(budget_s, 2.0, patience_s),
            )

    @property
    def did(self) -> list[str]:
        """What took effect on guests, in order; looks left out."""
        looks = ("state", "berth", "look")
        return [what for what, _ in self.hypervisor.calls if what not in looks]

    @property
    def started(self) -> list[str]:
        """Which QEMUs were started, in order, whatever came of it."""
        lines = read(self.journal.path).entries
        return ["new" if one.new else "old" for one in lines if isinstance(one, entries.Unparking)]

    @property
    def history(self):
        return fold(read(self.journal.path))


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, "a")


def test_a_guest_goes_on_in_the_new_qemu(bench):
    """Paused, parked, unparked, resumed; then nothing is kept for it."""
    window = bench.hold()
    assert window.update_error is None
    assert bench.did == ["pause", "park", "unpark new", "resume", "settle"]
    assert bench.hypervisor.states == {"a": RUNNING}
    (guest,) = bench.history.guests.values()
    assert (guest.custody, guest.held) == (Custody.RESUMED, False)
    assert guest.settled_ns is not None
    assert window.guests["a"].resume_error is None


def test_our_own_start_of_its_qemu_is_not_taken_for_somebody_elses(bench):
    """Another process, and an event that it was started, also one that comes late."""
    bench.hypervisor.before["resume", "a"] = lambda: None
    window = bench.hold()
    assert window.guests["a"].resume_returned_ns is not None
    assert not any(isinstance(g.resume_error, TakenOver) for g in window.guests.values())


def test_a_guest_whose_new_qemu_refuses_is_back_in_its_old_one_in_the_window(bench):
    """The update has failed, and says where the guest is."""
    bench.hypervisor.before["unpark new", "a"] = refuse()
    window = bench.hold()
    assert bench.started == ["new", "old"]
    assert bench.did == ["pause", "park", "unpark old", "resume", "settle"]
    assert "machine type not supported; it is in its old QEMU again" in bench.errors["a"]
    assert window.guests["a"].resume_returned_ns is not None
    assert not bench.parked.runs_new


def test_a_guest_that_both_refuse_is_tried_again_in_turns(bench):
    """Until one of them takes it: the resume does not give it up."""
    left = {"unpark new": 2, "unpark old": 2}

    def refusing(which):
        def no() -> None:
            left[which] -= 1
            if left[which] >= 0:
                raise HypervisorError("cannot run", operation="unparking")

        return no

    for which in left:
        bench.hypervisor.before[which, "a"] = refusing(which)
    window = bench.hold()
    assert "the old one refused as well" in bench.errors["a"]
    assert bench.started == ["new", "old", "old", "new", "old"]
    assert window.guests["a"].resume_returned_ns is not None
    assert bench.hypervisor.states == {"a": RUNNING}


def test_a_guest_that_nothing_takes_is_stuck_and_said_to_be_paused(bench):
    """It is in its files still: neither ended nor gone, whatever libvirt says."""
    for which in ("unpark new", "unpark old"):
        bench.hypervisor.before[which, "a"] = refuse()
    window = bench.hold(patience_s=0.3)
    assert window.guests["a"].stuck
    (guest,) = bench.history.guests.values()
    assert guest.held
    assert ToDo.UNPARK in guest.todo
    with Journal(bench.journal.path.parent, "run", joining=True) as journal:
        until = Deadline.after(5)
        told = still_paused(
            bench.members, bench.hypervisor, until, if_silent=False, journal=journal
        )
    assert told == ("a",)


def test_a_qemu_that_hangs_is_ended_and_the_old_one_takes_over(bench):
    """By another call: the one that started it never returns."""

    def hang() -> None:
        raise DeadlineExpired("unparking", 20.0)

    bench.hypervisor.before["unpark new", "a"] = hang
    window = bench.hold()
    assert bench.did == ["pause", "park", "end start", "unpark old", "resume", "settle"]
    assert window.guests["a"].resume_returned_ns is not None


def test_a_start_that_takes_longer_than_one_may_is_given_more_the_next_time(bench, monkeypatch):
    """A slow host is no hang: else each start would be ended, and the guest never back."""
    monkeypatch.setattr("harness.maintenance.pause.unparking.START_S", 1.0)
    given, unpark = [], bench.parked.unpark

    def slow(parking, deadline, *, new):
        given.append(deadline.remaining_s())
        if given[-1] < 3.5:
            raise DeadlineExpired("unparking", given[-1])
        return unpark(parking, deadline, new=new)

    monkeypatch.setattr(bench.parked, "unpark", slow)
    window = bench.hold()
    assert [round(one) for one in given] == [1, 1, 1, 2, 4]
    assert window.guests["a"].resume_returned_ns is not None


def test_a_guest_that_cannot_be_parked_stays_in_its_qemu_and_runs_again(bench):
    """And can be saved by anybody again: its RAM is not left out any more."""

    def no() -> None:
        bench.parked.capable.add("a")
        raise HypervisorError("migration is blocked", operation="parking")

    bench.hypervisor.before["park", "a"] = no
    window = bench.hold()
    assert "could not be parked: migration is blocked" in bench.errors["a"]
    assert window.guests["a"].resume_returned_ns is not None
    assert bench.hypervisor.processes["a"] == FIRST
    assert bench.parked.capable == set()


def test_one_guest_that_is_refused_keeps_no_other_from_its_new_qemu(tmp_path):
    """Each by itself."""
    bench = Bench(tmp_path, "a", "b")
    bench.hypervisor.before["unpark new", "a"] = refuse()
    bench.hold()
    assert list(bench.errors) == ["a"]
    assert bench.parked.runs_new == {"b"}
    assert bench.hypervisor.states == {"a": RUNNING, "b": RUNNING}


#: Where the run dies, as its journal's last line; and where the guest is then.
DEATHS = {
    "parkable": (RUNNING, Berth.AFLOAT),
    "paused": (PAUSED, Berth.AFLOAT),
    "parking": (PAUSED, Berth.AFLOAT),
    "parking, and parked": (GONE, Berth.PARKED),
    "parked": (GONE, Berth.PARKED),
    "unparking": (GONE, Berth.PARKED),
    "unparking, and hung": (PAUSED, Berth.ADRIFT),
    "unparking, and unparked": (PAUSED, Berth.AFLOAT),
    "unpark refused": (GONE, Berth.PARKED),
    "unparked": (PAUSED, Berth.AFLOAT),
    "lines lost": (GONE, Berth.PARKED),
}


def brought_back(
    hypervisor: FakeHypervisor, journal: Journal, *, by: str, seconds: float = 5, **known
) -> Answer[Resumed]:
    """What came of it when guest a was resumed."""
    answers = resume_all(
        [Member("a", "uuid-a")],
        hypervisor,
        journal,
        by=by,
        since_ns=0,
        deadline=Deadline.after(seconds, hypervisor.clock),
        **known,
    )
    return answers["a"]


def written_until(journal: Journal, death: str) -> None:
    """The lines that a run has written that died there."""
    lines: list[Entry] = [
        entries.Pausing((Member("a", "uuid-a"),)),
        entries.Paused("a", "uuid-a", qemu_pid=7, qemu_start_ticks=7),
        entries.Parking("a", "uuid-a"),
        entries.Parked("a", "uuid-a"),
        entries.Unparking("a", "uuid-a", "run", True),
    ]
    last: dict[str, Entry] = {"unpark refused": entries.UnparkRefused("a", "uuid-a", True, "no")}
    last["unparked"] = entries.Unparked(
        "a", "uuid-a", "run", True, SYSTEM_CLOCK.boottime_ns(), 8, 8
    )
    event = death.partition(",")[0]
    for line in lines[:2] if event == "lines lost" else lines:
        journal.note(line)
        if line.event == event:
            return
    if event in last:
        journal.note(last[event])


@pytest.mark.parametrize("by", ["guardian", "recover"])
@pytest.mark.parametrize("death", [name for name in DEATHS if name != "parkable"])
def test_wherever_the_run_died_the_guest_runs_again(tmp_path, death, by):
    """By its guardian and by recover in the same way; nothing is kept for it afterwards."""
    hypervisor = FakeHypervisor({"a": DEATHS[death][0]})
    hypervisor.parking.berths["a"] = DEATHS[death][1]
    hypervisor.processes = {"a": ProcessIdentity(8, 8) if "unparked" in death else FIRST}
    hypervisor.parking.capable.add("a")
    with Journal(tmp_path, "run") as journal:
        Swap(hypervisor, journal).prepare([SwapPlan(parking("a"), {}, {})])
        written_until(journal, death)
        assert [member.name for member in fold(journal.read()).held] == ["a"]
        answer = brought_back(hypervisor, journal, by=by, seconds=10)
        assert answer.error is None
        assert fold(journal.read()).held == ()
    assert hypervisor.states["a"] is RUNNING
    assert hypervisor.parking.settled == ["a"]
    if DEATHS[death][1] is Berth.PARKED:
        assert ("unpark old", "a") in hypervisor.calls


def test_a_guest_that_is_refused_again_and_again_is_tried_less_and_less_often(tmp_path):
    """Each start costs an id of libvirt's and two lines of the journal."""
    hypervisor = FakeHypervisor({"a": GONE}, FakeClock())
    hypervisor.parking.berths["a"] = Berth.PARKED
    for which in ("old", "new"):
        hypervisor.before[f"unpark {which}", "a"] = refuse()
    with Journal(tmp_path, "run") as journal:
        answer = brought_back(
            hypervisor, journal, by="recover", seconds=60, parkings={"uuid-a": parking("a")}
        )
        lines = journal.read().lines
    assert isinstance(answer.error, DeadlineExpired)
    tried = [line for line in lines if isinstance(line.entry, entries.Unparking)]
    assert 40 < len(tried) < 80  # 1,200 by the same wait each time


def test_what_was_known_before_brings_a_guest_back_where_the_journal_cannot_be_read(tmp_path):
    """A guardian has read it when it was armed."""

    class Unreadable(Journal):
        def read(self):
            raise HypervisorError("the disk hangs", operation="reading")

    hypervisor = FakeHypervisor({"a": GONE})
    hypervisor.parking.berths["a"] = Berth.PARKED
    with Unreadable(tmp_path, "run") as journal:
        answer = brought_back(
            hypervisor, journal, by="guardian", seconds=10, parkings={"uuid-a": parking("a")}
        )
    assert answer.error is None
    assert hypervisor.states["a"] is RUNNING


def test_a_guest_that_somebody_booted_meanwhile_is_left_alone(tmp_path):
    """It runs with other RAM: what was ours has ended."""
    hypervisor = FakeHypervisor({"a": RUNNING})
    hypervisor.parking.berths["a"] = Berth.ADRIFT
    hypervisor.processes = {"a": ProcessIdentity(9, 9)}
    with Journal(tmp_path, "run") as journal:
        Swap(hypervisor, journal).prepare([SwapPlan(parking("a"), {}, {})])
        written_until(journal, "parked")
        answer = brought_back(hypervisor, journal, by="recover")
    assert isinstance(answer.error, TakenOver)
    assert ("resume", "a") not in hypervisor.calls
    assert hypervisor.parking.settled == ["a"]


def test_a_qemu_of_ours_that_libvirt_ends_again_is_no_strangers(tmp_path):
    """libvirtd was killed at recover's own start; the next one ends that QEMU under our eyes."""
    hypervisor = FakeHypervisor({"a": GONE})
    hypervisor.parking.berths["a"] = Berth.PARKED
    started: list[bool] = []

    def starts() -> None:
        if not started:
            hypervisor.become("a", PAUSED, EventKind.STARTED)
            hypervisor.parking.berths["a"] = Berth.AFLOAT
        elif len(started) == 1:
            hypervisor.become("a", GONE, EventKind.STOPPED)
            hypervisor.parking.berths["a"] = Berth.PARKED
        started.append(True)
        if len(started) <= 2:
            raise HypervisorError("client socket is closed", operation="unparking")

    hypervisor.process = lambda uuid, deadline: hypervisor.processes.get("a")
    hypervisor.before["unpark old", "a"] = starts
    with Journal(tmp_path, "run") as journal:
        Swap(hypervisor, journal).prepare([SwapPlan(parking("a"), {}, {})])
        written_until(journal, "parked")
        answer = brought_back(
            hypervisor,
            journal,
            by="recover",
            judged={"uuid-a": PauseEdge(SYSTEM_CLOCK.monotonic_ns())},
        )
    assert answer.error is None
    assert hypervisor.states["a"] is RUNNING
    assert hypervisor.parking.settled == ["a"]


def test_an_error_that_is_none_of_ours_gives_no_guest_up(tmp_path):
    """A bug in one way back: the other one is tried."""
    hypervisor = FakeHypervisor({"a": GONE})
    hypervisor.parking.berths["a"] = Berth.PARKED

    def bug() -> None:
        raise FileNotFoundError("old.xml")

    hypervisor.before["unpark old", "a"] = bug
    with Journal(tmp_path, "run") as journal:
        answer = brought_back(hypervisor, journal, by="guardian", parkings={"uuid-a": parking("a")})
    assert answer.error is None
    assert hypervisor.states["a"] is RUNNING


def test_a_guest_of_which_nothing_is_left_has_ended(tmp_path):
    """The host was booted, or somebody threw its state away: nothing is started."""
    hypervisor = FakeHypervisor({"a": GuestState.SHUT_OFF})
    hypervisor.parking.berths["a"] = Berth.LOST
    hypervisor.process = lambda uuid, deadline: None
    with Journal(tmp_path, "run") as journal:
        Swap(hypervisor, journal).prepare([SwapPlan(parking("a", persistent=True), {}, {})])
        written_until(journal, "parked")
        answer = brought_back(hypervisor, journal, by="recover")
        assert isinstance(answer.error, WrongState)
        assert fold(journal.read()).held == ()
    assert not any(what.startswith("unpark") for what, _ in hypervisor.calls)


def test_a_line_that_is_late_does_not_take_a_running_guest_for_parked(tmp_path):
    """A thread that was given up may still write."""
    with Journal(tmp_path, "run") as journal:
        Swap(FakeHypervisor({}), journal).prepare([SwapPlan(parking("a"), {}, {})])
        written_until(journal, "unparked")
        journal.note(entries.Resumed("a", "uuid-a", "run"))
        journal.note(entries.UnparkRefused("a", "uuid-a", True, "late"))
        (guest,) = fold(journal.read()).guests.values()
    assert guest.custody is Custody.RESUMED


def test_nothing_is_parked_when_there_is_no_time_left(bench):
    """The guest is left as it is."""
    with pytest.raises(DeadlineExpired):
        bench.swap.swap(parking("a"), Deadline.after(0))
    assert bench.did == []
    bench.journal.__exit__(None, None, None)


def test_an_abandoned_update_does_nothing_to_a_guest_that_is_being_resumed(bench):
    """What is just being done is waited for; then nothing more is begun, and the resume goes on."""
    reached, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def slow() -> None:
        reached.set()
        go_on.wait(10)

    def let_go() -> None:
        reached.wait(10)
        SYSTEM_CLOCK.sleep(0.3)  # beyond the update's deadline
        go_on.set()

    def resumed() -> None:
        seen.extend(bench.did)

    bench.hypervisor.before["park", "a"] = slow
    bench.hypervisor.before["resume", "a"] = resumed
    threading.Thread(target=let_go).start()
    window = bench.hold(budget_s=2.1)  # 0.1 s for the update
    assert isinstance(window.update_error, UpdateOverran)
    assert seen == ["pause", "park", "unpark old"]
    assert bench.started == ["old"]
    assert "the update was abandoned; the resume brings it back" in bench.errors["a"]
    assert window.guests["a"].resume_returned_ns is not None


def test_nothing_is_begun_once_the_resume_has(bench):
    """Whoever asks."""
    bench.swap.quiesce(Deadline.after(1))
    with pytest.raises(UpdateFailed, match="the resume brings it back"):
        bench.swap.swap(parking("a"), Deadline.after(5))
    assert bench.did == []
    bench.journal.__exit__(None, None, None)


def test_a_guest_that_is_parked_behind_the_resumes_back_is_brought_back_again(bench):
    """A call that hung for so long that nobody waited for it any more comes to an end."""

    def late() -> None:
        del bench.hypervisor.before["resume", "a"]
        bench.hypervisor.parking.park(parking("a"), Deadline.after(5))

    bench.hypervisor.before["resume", "a"] = late
    window = bench.hold()
    assert bench.did.count("park") == 2
    assert window.guests["a"].resume_returned_ns is not None
    assert bench.history.held == ()
    assert bench.hypervisor.states == {"a": RUNNING}


def test_a_guest_is_known_to_be_parkable_also_where_the_intent_to_pause_it_is_lost(tmp_path):
    """A damaged line: a later one tells that it is held."""
    with Journal(tmp_path, "run") as journal:
        Swap(FakeHypervisor({}), journal).prepare([SwapPlan(parking("a"), {}, {})])
        journal.note(entries.Parked("a", "uuid-a"))
        (guest,) = fold(journal.read()).guests.values()
    assert guest.held
    assert guest.parkable is not None


def test_what_is_kept_is_not_given_up_because_nobody_says_where_the_guest_is(bench):
    """It would be removed, and with it the guest: it is asked again."""
    way = Return(parking("a"), bench.hypervisor, bench.journal, "run", Deadline.after(5))
    bench.hypervisor.before["berth", "a"] = refuse()
    with pytest.raises(NotYet, match="machine type"):
        way.there()
    bench.hypervisor.before.clear()
    bench.parked.berths["a"] = Berth.LOST
    assert not way.there()
