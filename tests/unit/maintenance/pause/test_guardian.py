"""The guardian's loop, with a run that is a socket and guests in memory."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from harness.core.errors import ConnectionLost, GuardianLost
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline
from harness.host.lifecycle import GuestState
from harness.maintenance.pause.guard import Guardian
from harness.maintenance.pause.guardian import Watch
from harness.maintenance.pause.ownership import Member
from harness.maintenance.pause.resume import as_data
from harness.results.journal import Journal, read
from harness.testing.hypervisor import FakeHypervisor

RUNNING, PAUSED = GuestState.RUNNING, GuestState.PAUSED


class Bench:
    """A guardian in a thread, and the run's end of its socket."""

    def __init__(self, folder, *names: str) -> None:
        self.folder = folder
        self.hypervisor = FakeHypervisor(dict.fromkeys(names, RUNNING))
        self.run_journal = Journal(folder, "run")
        self.members = [Member(name, f"uuid-{name}") for name in names]
        self.run, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.journal = Journal(folder, "run", joining=True)
        watch = Watch(self.hypervisor, self.journal, self.theirs)
        self.thread = threading.Thread(target=watch.keep, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.run.close()
        self.thread.join(10)
        self.theirs.close()
        for journal in (self.journal, self.run_journal):
            journal.__exit__(None, None, None)

    def pause(self, *names: str) -> None:
        members = [member for member in self.members if member.name in names]
        self.run_journal.intend("pausing", guests=as_data(members))
        for member in members:
            self.hypervisor.pause(member.uuid, Deadline.after(1))

    def ask(self, request: dict) -> dict:
        self.run.settimeout(10)
        self.run.send(json.dumps(request).encode())
        return json.loads(self.run.recv(65536))

    def arm(self, limit_s: float = 60) -> dict:
        until_ns = SYSTEM_CLOCK.monotonic_ns() + round(limit_s * NS_PER_S)
        return self.ask({"arm": {"until_ns": until_ns, "mark": "run/0/apply"}})

    def die(self) -> None:
        """What the kernel does to the socket of a process that was killed."""
        self.run.close()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path, "a", "b", "c")
    yield made
    made.close()


def test_it_resumes_what_the_run_held_when_the_run_dies(bench):
    """And no other guest."""
    assert bench.arm() == {"to": "arm"}
    bench.pause("a", "b")
    bench.hypervisor.pause("uuid-c", Deadline.after(1))  # somebody else's
    bench.die()
    assert bench.hypervisor.states == {"a": RUNNING, "b": RUNNING, "c": PAUSED}
    entries = read(bench.folder / "journal.jsonl")
    assert [e["guest"] for e in entries if e["event"] == "resumed"] != []
    assert {e["by"] for e in entries if e["event"] == "resumed"} == {"guardian"}


def test_a_budget_of_many_days_can_be_guarded(bench):
    """poll() counts milliseconds in a C int; a guardian that fails on that guards nobody."""
    assert bench.arm(limit_s=3e6) == {"to": "arm"}
    bench.pause("a")
    bench.die()
    assert bench.hypervisor.states["a"] is RUNNING


def test_it_resumes_at_the_limit_though_the_run_lives(bench):
    """A run that is stopped or stuck; and it goes on serving."""
    bench.arm(limit_s=0.2)
    bench.pause("a")
    bench.run.settimeout(10)
    assert json.loads(bench.run.recv(65536)) == {"to": "rescued"}
    assert bench.hypervisor.states["a"] is RUNNING
    assert bench.ask({"disarm": {}}) == {"to": "disarm"}


@pytest.mark.parametrize("release", ["refused", "resumed", "taken over"])
def test_it_leaves_alone_what_the_run_has_let_go(bench, release):
    """By the journal."""
    bench.arm()
    bench.pause("a")
    bench.run_journal.note(release, guest="a", uuid="uuid-a", by="run")
    bench.die()
    assert bench.hypervisor.states["a"] is PAUSED


def test_it_leaves_alone_what_somebody_else_resumed_and_paused(bench):
    """By the events, though the journal does not know."""
    bench.arm()
    bench.pause("a")
    bench.hypervisor.resume("uuid-a", Deadline.after(1))
    bench.hypervisor.pause("uuid-a", Deadline.after(1))
    bench.die()
    assert bench.hypervisor.states["a"] is PAUSED


def test_disarmed_it_ends_with_the_run_and_touches_nobody(bench):
    """Between two update domains, and after the last one."""
    bench.arm()
    assert bench.ask({"disarm": {}}) == {"to": "disarm"}
    bench.pause("a")
    bench.die()
    assert bench.hypervisor.states["a"] is PAUSED


def test_it_is_not_armed_when_it_cannot_see_the_guests(bench):
    """The run hears why, before anything is paused."""

    def lost():
        raise ConnectionLost("no socket", operation="reading the state")

    bench.hypervisor.before["state", "a"] = lost
    bench.run_journal.intend("pausing", guests=as_data(bench.members[:1]))
    assert "no socket" in bench.arm()["error"]
    bench.die()
    assert bench.hypervisor.calls == []


def test_it_goes_on_trying_while_libvirtd_is_away(bench):
    """Until the guest runs."""
    failures = iter(range(3))

    def lost():
        if next(failures, None) is not None:
            raise ConnectionLost("gone", operation="resuming")

    bench.arm()
    bench.pause("a")
    bench.hypervisor.before["resume", "a"] = lost
    bench.die()
    assert bench.hypervisor.states["a"] is RUNNING


def test_a_guardian_that_cannot_connect_is_known_before_the_pause(tmp_path):
    """A real process: it ends at once, and `arm` says so."""
    with Guardian("test:///nonexistent/node.xml", tmp_path) as guard:
        with pytest.raises(GuardianLost, match="nothing was paused"):
            guard.arm(30, "mark")
        assert guard.lost


def test_a_guardian_that_works_answers_and_ends_with_the_run(tmp_path):
    """A real process, on libvirt's test driver."""
    with Journal(tmp_path, "run") as journal:
        journal.intend("run started")
    with Guardian("test:///default", tmp_path) as guard:
        guard.arm(30, "mark")
        assert not guard.lost
        guard.disarm()
    assert guard._wait(5) == 0
