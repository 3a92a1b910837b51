"""The run's side of its guardian: what it says, and what it makes of the answers."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress

import pytest

from harness.core.errors import GuardianLost
from harness.core.timebase import NS_PER_S, Deadline
from harness.maintenance.pause.guard import LOG, GuardianProcess
from harness.results.journal import Member
from harness.testing.clock import FakeClock

MEMBERS = (Member("a", "uuid-a"), Member("b", "uuid-b"))


class Guard:
    """A guardian that a test plays itself, by the other end of the socket."""

    def __init__(self, folder, *answers) -> None:
        self.clock = FakeClock()
        self.answers = iter(answers)
        self.heard: list[dict] = []
        self.waited: list[float] = []
        self.run = GuardianProcess("test:///default", folder, self.clock, self.launch)

    def launch(self, uri, folder, theirs):
        self.ours = theirs.dup()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self.waited.append

    def serve(self) -> None:
        with self.ours, suppress(ConnectionError):  # the run has gone, with packets unread
            for answer in self.answers:
                packet = self.ours.recv(1 << 18)
                if not packet:
                    return
                self.heard.append(json.loads(packet))
                for one in answer:
                    self.ours.send(json.dumps(one).encode())


def test_it_is_told_when_to_come_and_for_whom(tmp_path):
    """At a time of the host's CLOCK_MONOTONIC, with the guests in order and the update's mark."""
    guard = Guard(tmp_path, [{"to": "arm"}], [{"to": "disarm"}])
    until_ns = guard.clock.monotonic_ns() + round(29.5 * NS_PER_S)
    with guard.run as run:
        assert run._socket.type == socket.SOCK_SEQPACKET, (
            "a message is a packet, or two run together"
        )
        run.arm(29.5, "run/0/apply", MEMBERS, 45.0)
        run.disarm()
    guard.thread.join(10)
    guests = [{"name": "a", "uuid": "uuid-a"}, {"name": "b", "uuid": "uuid-b"}]
    order = {"until_ns": until_ns, "mark": "run/0/apply", "guests": guests, "patience_s": 45.0}
    assert guard.heard == [
        {"arm": order},
        {"disarm": {}},
    ]
    assert guard.waited == [2.0]


def test_a_rescue_that_is_told_of_is_no_answer(tmp_path):
    """What it says of itself comes at any time; the answer is what is waited for."""
    guard = Guard(tmp_path, [{"to": "rescued"}, {"to": "arm"}])
    with guard.run as run:
        run.arm(1, "m", MEMBERS, 60.0)
        assert guard.clock.monotonic_ns() == FakeClock().monotonic_ns()


def test_one_that_cannot_guard_says_why(tmp_path):
    """In its own words."""
    guard = Guard(tmp_path, [{"to": "arm", "error": "no threads are to be had"}])
    with guard.run as run, pytest.raises(GuardianLost) as lost:
        run.arm(1, "m", MEMBERS, 60.0)
    assert lost.value.message == (
        "the guardian cannot guard: no threads are to be had; nothing was paused"
    )


def test_one_that_has_died_is_no_guardian(tmp_path):
    """Seen at once, before and after it was asked; where its last words are is said."""
    guard = Guard(tmp_path)
    guard.thread.join(10)
    with guard.run as run:
        assert run.lost
        with pytest.raises(GuardianLost) as lost:
            run.arm(1, "m", MEMBERS, 60.0)
        assert run.lost
        run.disarm()
    assert lost.value.message == "the guardian does not answer, so nothing was paused"
    assert lost.value.hint == f"its last words are in {LOG} in the run folder"


def test_one_that_does_not_answer_is_given_up_in_time(tmp_path, monkeypatch):
    """It hangs, e.g. on a libvirtd that does not answer. Nothing is paused."""
    waited = []

    def nothing(descriptors, until):
        waited.append(until.remaining_s())
        return []

    monkeypatch.setattr("harness.maintenance.pause.guard.readable", nothing)
    guard = Guard(tmp_path, [])
    with guard.run as run:
        with pytest.raises(GuardianLost, match="does not answer"):
            run.arm(1, "m", MEMBERS, 60.0)
        run.disarm()
        assert not run.lost
    assert waited == [15.0, 2.0, 0.0]


def test_to_look_whether_it_lives_takes_no_answer_away(tmp_path):
    """Asked in the window, when it may have told of a rescue."""
    guard = Guard(tmp_path, [{"to": "rescued"}, {"to": "disarm"}], [])
    with guard.run as run:
        run._socket.send(b"{}")
        assert run._readable(Deadline.after(10))
        assert not run.lost
        assert not run.lost
        assert json.loads(run._socket.recv(1000)) == {"to": "rescued"}


def test_without_a_process_there_is_no_guardian(tmp_path):
    """E.g. at a limit of tasks; both ends of the socket are closed."""
    ends: list[socket.socket] = []

    def refuse(uri, folder, theirs):
        ends.append(theirs)
        raise OSError(11, "Resource temporarily unavailable")

    with pytest.raises(GuardianLost, match="cannot be started: Resource temporarily unavailable"):
        GuardianProcess("test:///default", tmp_path, launch=refuse)
    assert ends[0].fileno() == -1
