"""Whose clock is mended when."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.clock.sampling import BUSY_S
from harness.core.fanout import fan_out
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline, NotYet, wait_for
from harness.maintenance import correction_queue
from harness.maintenance.correction_place import Holder, Stage
from harness.maintenance.correction_queue import CorrectionQueue


def all_wait(queue: CorrectionQueue, guests: int) -> None:
    """Return when so many have no place yet."""

    def look() -> None:
        if len(queue._waiting) != guests:
            raise NotYet(f"{len(queue._waiting)} wait")

    wait_for(look, what="waiting", deadline=Deadline.after(60), interval_s=0.01)


def no_slack() -> None:
    """A machine of which nothing is known."""


class Busy:
    """How many threads were in a ``with`` of it at once, at most."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


def test_no_more_than_so_many_at_once_and_all_are_over_together():
    """The sixth of six waits for the first; nobody goes on before the last is over."""
    them, busy, said = CorrectionQueue(6, at_once=2, slack=no_slack), Busy(), []

    def mend(name: str) -> None:
        with them.place(Deadline.after(20)) as place:
            with busy:
                SYSTEM_CLOCK.sleep(0.02)
            said.append("mended")
            place.give_up()
            said.append("looks")

    calls = {name: lambda name=name: mend(name) for name in "abcdef"}
    for answer in fan_out(calls, Deadline.after(20), what="mending").values():
        answer.get()
    assert busy.most == 2
    assert said == ["mended"] * 6 + ["looks"] * 6


def hold_all(
    queue: CorrectionQueue, guests: int, deadline: Deadline, *, waits: bool = False
) -> list[int]:
    """Have so many guests take places that none gives up; when each got one."""
    got_in, seen = [], threading.Event()

    def silent() -> None:
        with queue.place(deadline, waits=waits) as place:
            got_in.append(SYSTEM_CLOCK.monotonic_ns())
            if len(got_in) == guests:
                seen.set()
            seen.wait(deadline.remaining_s())
            place.give_up()

    calls = {str(number): silent for number in range(guests)}
    fan_out(calls, Deadline.after(120), what="holding")
    return got_in


def test_guests_that_are_slow_or_silent_let_one_other_each_go_on_and_never_all(monkeypatch):
    """All that waited went on at once after a second: with many guests no clock was right soon."""
    monkeypatch.setattr(correction_queue, "_TURN_S", turn_s := 0.1)
    began_ns = SYSTEM_CLOCK.monotonic_ns()
    got_in = hold_all(CorrectionQueue(16, 2, no_slack), 16, Deadline.after(120))
    turns = [(at_ns - began_ns) / NS_PER_S / turn_s for at_ns in got_in]
    assert len(turns) == 16
    assert all(turn >= number // 2 for number, turn in enumerate(turns)), turns


def test_clocks_that_wait_for_a_whole_second_share_places_and_never_go_all_at_once(monkeypatch):
    """They do no work meanwhile; but an idle machine is not idle when that second comes."""
    monkeypatch.setattr(correction_queue, "_TURN_S", turn_s := 0.2)
    began_ns, idle = SYSTEM_CLOCK.monotonic_ns(), iter([False])
    queue = CorrectionQueue(20, 2, lambda: next(idle, True))
    got_in = hold_all(queue, 20, Deadline.after(120), waits=True)
    turns = [(at_ns - began_ns) / NS_PER_S / turn_s for at_ns in got_in]
    assert len(turns) == 20
    assert all(turn >= number // 8 for number, turn in enumerate(turns)), turns
    assert turns[7] < 1


def test_a_clock_that_is_soon_right_has_a_whole_place_beside_those_that_wait():
    """Four that wait and one that does not have both places."""
    queue, until = CorrectionQueue(8, 2, no_slack), Deadline.after(60)
    for waits in (True, True, True, True, False):
        queue._take(until, (0, 0.0), waits=waits)
    assert (len(queue._in_turn), queue._waiting) == (5, [])
    assert [one.beside for one in queue._in_turn.values()] == [0, 1, 2, 3, 0]
    queue._waiting.append(Holder((0, 0.0, 0.0), 9, waits=True))
    assert not queue._has_room()


def test_every_guest_has_its_turn_in_time_even_if_all_are_silent():
    """Turns of a second would be too long for forty guests and six seconds."""
    deadline = Deadline.after(6)
    got_in = hold_all(CorrectionQueue(40, 1, no_slack), 40, deadline)
    assert len(got_in) == 40
    assert max(got_in) < deadline.at_ns


def test_of_those_that_wait_the_most_urgent_goes_first_then_who_came_first():
    """Each as the one before it gives its place up."""
    queue, order = CorrectionQueue(6, 1, no_slack), []

    def mend(name: str, urgency: tuple[int, float]) -> None:
        with queue.place(Deadline.after(60), urgency):
            order.append(name)

    urgencies = {"a": (0, 1.0), "b": (0, 9.0), "c": (5, 0.0), "d": (0, 1.0), "e": (-1, 99.0)}
    with queue.place(Deadline.after(60)):
        them = []
        for number, (name, urgency) in enumerate(urgencies.items()):
            them.append(threading.Thread(target=mend, args=(name, urgency)))
            them[-1].start()
            all_wait(queue, number + 1)
    for one in them:
        one.join(60)
    assert order == ["c", "b", "a", "d", "e"]


def test_there_are_more_places_while_the_machine_has_nothing_to_do_and_fewer_again(monkeypatch):
    """Guests far away take their time and nobody's work; then the machine is busy again."""
    monkeypatch.setattr(correction_queue, "_TURN_S", 60.0)
    said = [True, True]
    queue = CorrectionQueue(0, 1, lambda: said.pop(0) if said else None)
    numbers = [queue._take(Deadline.after(120), (0, 0.0)) for _ in range(4)]
    assert (sorted(queue._in_turn), said) == ([one.number for one in numbers], [])
    said = [False]
    queue._release(numbers[0], Deadline.after(120))
    assert (queue._places, len(queue._in_turn)) == (1, 3)
    with ThreadPoolExecutor() as pool:
        fifth = pool.submit(queue._take, Deadline.after(120), (0, 0.0))
        all_wait(queue, 1)
        for number in numbers[1:]:
            assert not fifth.done()
            queue._release(number, Deadline.after(120))
        assert fifth.result(60).number == 5


def test_nobody_waits_for_long_for_those_who_are_silent(monkeypatch):
    """Neither for their places, nor for them to be over."""
    monkeypatch.setattr(correction_queue, "_TURN_S", 0.1)
    monkeypatch.setattr(correction_queue, "_TOGETHER_S", 0.1)
    them = CorrectionQueue(2, at_once=1)
    with them.place(Deadline.after(20)), them.place(Deadline.after(20)):
        pass


def test_looks_wait_for_as_long_as_clocks_get_on(monkeypatch):
    """However many there are: a look would be in the way of the clocks that wait still."""
    monkeypatch.setattr(correction_queue, "_TOGETHER_S", 1.0)
    queue, said = CorrectionQueue(5, 1, no_slack), []

    def mend(number: int) -> None:
        with queue.place(Deadline.after(60)) as place:
            SYSTEM_CLOCK.sleep(0.4)  # all of them take twice as long as looks wait for one
            said.append("mended")
            place.give_up()
            said.append("looks")

    calls = {str(number): lambda number=number: mend(number) for number in range(5)}
    fan_out(calls, Deadline.after(60), what="mending")
    assert said == ["mended"] * 5 + ["looks"] * 5


def test_most_of_a_short_time_is_left_for_looks():
    """Where one guest is silent until the deadline, the other is still looked at."""
    them, deadline = CorrectionQueue(2), Deadline.after(4)
    with them.place(deadline):
        pass
    assert deadline.remaining_s() > 2


def test_a_deadline_that_has_passed_is_not_waited_for():
    """Whoever has no time left does at once what is left to do."""
    them = CorrectionQueue(2, at_once=1)
    with them.place(Deadline.after(0)), them.place(Deadline.after(0)):
        pass


def test_a_turn_that_ends_in_an_error_makes_room():
    """A bug in one guest's turn is not the next one's."""
    them = CorrectionQueue(1, at_once=1)
    with pytest.raises(ZeroDivisionError), them.place(Deadline.after(20)):
        raise ZeroDivisionError
    with them.place(Deadline.after(20)):
        pass
    assert not them._in_turn


def test_clocks_that_are_right_are_looked_at_closely_when_none_waits_that_may_be_wrong():
    """One that could not be read beside the others comes in between."""
    queue, said = CorrectionQueue(4, 1, no_slack), []

    def correct(name: str) -> None:
        with queue.place(Deadline.after(60)) as place:
            said.append(f"set {name}")
            if name == "b":
                assert place.later()
                said.append(f"set {name} again")
            place.right()
            said.append(f"look {name}")

    with ThreadPoolExecutor() as pool:
        with queue.place(Deadline.after(60)):
            queue._left += 1
            them = []
            for number, name in enumerate("abcd"):
                them.append(pool.submit(correct, name))
                all_wait(queue, number + 1)
        for one in them:
            one.result(60)
    assert said[:4] == [f"set {name}" for name in "abcd"]
    assert said[4] == "set b again"
    assert sorted(said[5:]) == [f"look {name}" for name in "abcd"]


@pytest.mark.parametrize(("stage", "most"), [("wrong", 8), ("unsure", 2), ("right", 4)])
def test_of_clocks_that_are_set_to_a_whole_second_fewer_are_read_at_once_than_wait_for_it(
    stage, most, monkeypatch
):
    """To be read they all answer at once, and that is what makes readings poor."""
    monkeypatch.setattr(correction_queue, "_TURN_S", 60.0)
    queue, until = CorrectionQueue(20, 2, no_slack), Deadline.after(3600)
    took = Stage[stage.upper()]
    with ThreadPoolExecutor(12) as pool:
        them = [
            pool.submit(queue._take, until, (0.0, 0.0), waits=True, stage=took) for _ in range(12)
        ]
        all_wait(queue, 12 - most)
        assert len(queue._in_turn) == most
        for _ in range(12):
            queue._release(min(queue._in_turn.values()), until)
        assert len({one.result(60).number for one in them}) == 12


def test_a_clock_is_read_again_later_a_few_times_and_only_where_there_are_others():
    """Alone it will not be known any better; and there is an end to it."""
    with CorrectionQueue(1, 1, no_slack).place(Deadline.after(60)) as place:
        assert not place.later()
    with CorrectionQueue(2, 1, no_slack).place(Deadline.after(60)) as place:
        assert [place.later() for _ in range(5)] == [True, True, True, False, False]
        place._queue._left = 1
    with CorrectionQueue(2, 1, no_slack).place(Deadline.after(0)) as place:
        assert not place.later()


def test_looks_wait_for_a_guest_that_is_slow_and_answers_but_not_for_one_that_is_silent(
    monkeypatch,
):
    """Its clock is being corrected: a look at the others would be in the way."""
    monkeypatch.setattr(correction_queue, "_TOGETHER_S", 0.3)
    for answers in (True, False):
        queue, over = CorrectionQueue(2, 2, no_slack), threading.Event()
        heard = SYSTEM_CLOCK.monotonic_ns if answers else lambda: 0

        def slow(queue=queue, over=over, heard=heard) -> None:
            with queue.place(Deadline.after(60), heard=heard):
                SYSTEM_CLOCK.sleep(1.5)
                over.set()

        with ThreadPoolExecutor() as pool:
            slowly = pool.submit(slow)
            with queue.place(Deadline.after(60)):
                pass
            assert over.is_set() == answers
            slowly.result(60)


def test_a_guest_that_answers_late_is_asked_for_no_longer_than_its_turn_while_others_wait():
    """Else the next comes in beside it, and soon all would be asked at once."""
    with CorrectionQueue(1, 1, no_slack).place(Deadline.after(60)) as place:
        assert place.busy_s == BUSY_S
    with CorrectionQueue(2, 1, no_slack).place(Deadline.after(60)) as place:
        assert place.busy_s == correction_queue._TURN_S < BUSY_S
        assert place.later()
        assert place.busy_s == BUSY_S
        place._queue._left = 1


@pytest.mark.parametrize(("waits", "at_once"), [(True, 2), (False, 6)])
def test_of_clocks_that_share_a_place_as_many_are_read_at_once_as_there_are_places(waits, at_once):
    """They are set at the same second, and would all be read right after it."""
    queue, busy = CorrectionQueue(6, at_once, no_slack), Busy()
    all_have_places = threading.Barrier(6)

    def read() -> None:
        with queue.place(Deadline.after(60), waits=waits) as place:
            all_have_places.wait(60)
            with place.talking(), busy:
                SYSTEM_CLOCK.sleep(0.05)

    fan_out({str(number): read for number in range(6)}, Deadline.after(60), what="reading")
    assert busy.most == at_once


def test_a_guest_that_says_nothing_keeps_no_other_from_being_read(monkeypatch):
    """For a moment, that is."""
    monkeypatch.setattr(correction_queue, "_TALK_S", 0.05)
    queue = CorrectionQueue(2, 1, no_slack)
    mine = Holder((0, 0.0, 0.0), 1, waits=True)
    with queue.talking(mine), queue.talking(mine), queue.talking(mine):
        pass
    assert queue._talking.acquire(blocking=False), "what was had is given back, once"
    assert not queue._talking.acquire(blocking=False)
