"""The guardian's loop, with a run that is a socket and guests in memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core import fanout, polling
from harness.core.errors import ConnectionLost, GuardianLost
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline
from harness.host.driver import LibvirtHypervisor
from harness.host.lifecycle import GuestState
from harness.host.process_family import Family
from harness.maintenance.pause import guardian, resume, scribe
from harness.maintenance.pause.guard import LOG, GuardianProcess, as_data
from harness.maintenance.pause.guardian import Guardian
from harness.results.journal import Journal, Member, entries, read
from harness.testing.hypervisor import FakeHypervisor

RUNNING, PAUSED = GuestState.RUNNING, GuestState.PAUSED


class Bench:
    """A guardian in a thread, and the run's end of its socket."""

    def __init__(self, folder, *names: str, tell=None) -> None:
        self.folder = folder
        self.hypervisor = FakeHypervisor(dict.fromkeys(names, RUNNING))
        self.run_journal = Journal(folder, "run")
        self.members = [Member(name, f"uuid-{name}") for name in names]
        self.run, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.journal = Journal(folder, "run", joining=True)
        self.told = threading.Event()
        watch = Guardian(self.hypervisor, self.journal, self.theirs, tell_people=tell or self.tell)
        self.thread = threading.Thread(target=watch.keep, daemon=True)
        self.thread.start()

    def tell(self, over: bool) -> None:
        self.told_over = over
        self.told.set()

    def close(self) -> None:
        self.run.close()
        self.thread.join(10)
        self.theirs.close()
        for journal in (self.journal, self.run_journal):
            journal.__exit__(None, None, None)

    def pause(self, *names: str) -> None:
        members = [member for member in self.members if member.name in names]
        self.run_journal.intend(entries.Pausing(tuple(members)))
        for member in members:
            self.hypervisor.pause(member.uuid, Deadline.after(1))

    def ask(self, request: dict) -> dict:
        self.run.settimeout(10)
        self.run.send(json.dumps(request).encode())
        return json.loads(self.run.recv(65536))

    def arm(self, limit_s: float = 60, *, names="ab", patience_s: float = 60.0) -> dict:
        guests = [member for member in self.members if member.name in names]
        until_ns = SYSTEM_CLOCK.monotonic_ns() + round(limit_s * NS_PER_S)
        request = {"until_ns": until_ns, "mark": "run/0/apply", "guests": as_data(guests)}
        return self.ask({"arm": {**request, "patience_s": patience_s}})

    def die(self) -> None:
        """What the kernel does to the socket of a process that was killed."""
        self.run.close()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "_SETTLED_S", 0.05)  # fakes have no pauses on their way
    folder = tmp_path / "run"
    folder.mkdir()
    made = Bench(folder, "a", "b", "c")
    yield made
    made.close()


def test_it_resumes_what_the_run_held_when_the_run_dies(bench):
    """And no other guest."""
    assert bench.arm() == {"to": "arm"}
    bench.pause("a", "b")
    bench.hypervisor.pause("uuid-c", Deadline.after(1))  # somebody else's
    bench.die()
    assert bench.hypervisor.states == {"a": RUNNING, "b": RUNNING, "c": PAUSED}
    found = read(bench.folder / "journal.jsonl").entries
    assert {e.by for e in found if isinstance(e, entries.Resumed)} == {"guardian"}


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


@pytest.mark.parametrize(
    "release",
    [
        entries.Refused("a", "uuid-a"),
        entries.Resumed("a", "uuid-a", "run"),
        entries.TakenOver("a", "uuid-a"),
        entries.Ended("a", "uuid-a"),
    ],
)
def test_it_leaves_alone_what_the_run_has_let_go(bench, release):
    """By the journal."""
    bench.arm()
    bench.pause("a")
    bench.run_journal.note(release)
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
    bench.run_journal.intend(entries.Pausing(tuple(bench.members[:1])))
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


def _refuses(bench, until: threading.Event):
    """A libvirtd that resumes nobody before that."""

    def lost():
        if not until.is_set():
            raise ConnectionLost("gone", operation="resuming")

    bench.hypervisor.before["resume", "a"] = lost


def test_people_are_told_of_a_guest_that_does_not_run_in_time_and_it_goes_on_trying(bench):
    """Nothing told anybody: a run that has died cannot."""
    bench.arm(names="a", patience_s=0.1)
    bench.pause("a")
    _refuses(bench, bench.told)
    bench.die()
    assert bench.told.is_set()
    assert not bench.told_over
    assert bench.hypervisor.states["a"] is RUNNING


def test_people_are_told_at_the_end_of_its_patience_too(bench, monkeypatch):
    """Whatever went wrong with telling them before, and though the run lives, stopped."""
    monkeypatch.setattr(guardian, "PATIENCE_S", 0.3)
    bench.arm(0.1, names="a", patience_s=0.1)
    bench.pause("a")
    _refuses(bench, threading.Event())
    bench.run.settimeout(10)
    assert json.loads(bench.run.recv(65536)) == {"to": "rescued"}
    assert bench.told.wait(10)
    assert bench.told_over


def test_a_run_that_lives_and_goes_on_trying_tells_people_itself(bench):
    """They would be told twice."""
    bench.arm(0.1, names="a", patience_s=0.05)
    bench.pause("a")
    tried = iter(range(8))

    def lost():
        if next(tried, None) is not None:
            raise ConnectionLost("gone", operation="resuming")

    bench.hypervisor.before["resume", "a"] = lost
    bench.run.settimeout(10)
    assert json.loads(bench.run.recv(65536)) == {"to": "rescued"}
    bench.die()
    assert not bench.told.is_set()


def test_nobody_is_told_of_guests_that_run(bench):
    bench.arm(names="a")
    bench.pause("a")
    bench.die()
    assert bench.hypervisor.states["a"] is RUNNING
    assert not bench.told.is_set()


def test_telling_that_hangs_keeps_no_guest_from_its_resume(tmp_path, monkeypatch):
    """A disk that does not answer: only the thread that tells waits for it."""
    monkeypatch.setattr(resume, "_SETTLED_S", 0.05)
    monkeypatch.setattr(guardian, "_ALARM_S", 0.1)
    hangs, entered = threading.Event(), threading.Event()

    def tell(over: bool) -> None:
        entered.set()
        hangs.wait(30)

    with closing(Bench(tmp_path, "a", tell=tell)) as bench:
        bench.arm(names="a", patience_s=0.05)
        bench.pause("a")
        _refuses(bench, entered)
        bench.die()
        assert bench.hypervisor.states["a"] is RUNNING
        hangs.set()


def test_what_was_resumed_before_it_was_armed_takes_nobody_over(bench):
    """An earlier maintenance, or a backup: only what came since it was armed counts."""
    bench.pause("a")
    bench.hypervisor.resume("uuid-a", Deadline.after(1))
    bench.arm(names="a")
    bench.pause("a")
    bench.die()
    assert bench.hypervisor.states["a"] is RUNNING


def _renamed(bench):
    bench.folder.rename(bench.folder.with_name("elsewhere"))


def _deleted(bench):
    shutil.rmtree(bench.folder)


def _replaced(bench):
    _renamed(bench)
    bench.folder.mkdir()
    with Journal(bench.folder, "another") as journal:
        journal.note(entries.Resumed("a", "uuid-a", "run"))


def _truncated(bench):
    os.truncate(bench.folder / "journal.jsonl", 0)


def _odd(bench):
    with open(bench.folder / "journal.jsonl", "ab") as file:
        file.write(b'[]\nnull\n\xff\n{"event": 7}\n{"event": "resumed"}\n{"event": "paus')


def _fails(owner, name, error):
    """``owner.name`` raises ``error``, for as long as the test lasts."""

    def fail(*arguments, **words):
        raise error

    return lambda bench: bench.patch.setattr(owner, name, fail)


def _resume_fails(error):
    """The first two calls that resume do."""

    def lay(bench):
        left = iter(range(2))

        def fail() -> None:
            if next(left, None) is not None:
                raise error

        bench.hypervisor.before["resume", "a"] = fail

    return lay


def _resuming_fails(bench):
    """A bug of ours, at first."""
    really = resume.resume_all
    left = iter(range(2))

    def resume_all(*arguments, **words):
        if next(left, None) is not None:
            raise KeyboardInterrupt
        return really(*arguments, **words)

    bench.patch.setattr(guardian, "resume_all", resume_all)


FAULTS = {
    "the folder is renamed": _renamed,
    "the folder is deleted": _deleted,
    "the folder is another": _replaced,
    "the journal is truncated": _truncated,
    "the journal holds odd lines": _odd,
    "the journal cannot be read": _fails(Journal, "read", MemoryError()),
    "the journal cannot be written": _fails(Journal, "_append", RuntimeError("a bug")),
    "no thread can be started": _fails(threading.Thread, "start", RuntimeError("no thread")),
    "no event can be read": _fails(FakeHypervisor, "events", MemoryError()),
    "the update cannot be ended": _fails(Family, "end", OSError(24, "no descriptors")),
    "no memory to resume": _resume_fails(MemoryError()),
    "a bug in resuming": _resume_fails(KeyError("a bug")),
    "interrupted": _resume_fails(KeyboardInterrupt()),
    "a bug before resuming": _resuming_fails,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_rescues_whatever_broke_since_it_was_armed(bench, monkeypatch, fault):
    """Nothing that can fail comes before the resume, and no class of error keeps it from it."""
    assert bench.arm(names="a") == {"to": "arm"}
    bench.pause("a")
    with monkeypatch.context() as bench.patch:
        FAULTS[fault](bench)
        bench.die()
    assert bench.hypervisor.states["a"] is RUNNING


def test_the_limit_holds_also_where_it_cannot_hear_the_run(bench, monkeypatch):
    """Out of memory, say: it goes on trying, and is not too early."""
    really, before_ns = polling.readable, []
    bench.arm(limit_s=0.3, names="a")
    armed_ns = SYSTEM_CLOCK.monotonic_ns()
    bench.pause("a")

    def fail(descriptors, until):
        if bench.hypervisor.states["a"] is PAUSED:
            raise MemoryError
        return really(descriptors, until)

    monkeypatch.setattr(guardian, "readable", fail)
    bench.hypervisor.before["resume", "a"] = lambda: before_ns.append(SYSTEM_CLOCK.monotonic_ns())
    bench.run.send(b"{}")  # it hears this, and then nothing more
    bench.run.settimeout(10)
    assert json.loads(bench.run.recv(65536)) == {"to": "rescued"}
    assert bench.hypervisor.states["a"] is RUNNING
    assert before_ns[0] - armed_ns > 0.2 * NS_PER_S
    assert entries.Rescue("the limit is reached") in read(bench.folder / "journal.jsonl").entries


def test_a_file_system_that_hangs_holds_no_resume_up(bench, monkeypatch):
    """Neither reading nor writing the journal is waited for."""
    release = threading.Event()
    bench.arm(names="a")
    bench.pause("a")
    monkeypatch.setattr(scribe, "_READ_S", 0.05)
    monkeypatch.setattr(guardian, "_FLUSH_S", 0.05)
    for call in ("read", "_append"):
        monkeypatch.setattr(Journal, call, lambda *arguments: release.wait(30))
    try:
        bench.die()
        assert bench.hypervisor.states["a"] is RUNNING
    finally:
        release.set()


def test_the_update_is_ended_when_the_guests_run(bench, monkeypatch):
    """It may have restarted the libvirtd that resumes them."""
    found = []
    monkeypatch.setattr(Family, "end", lambda family: found.append(dict(bench.hypervisor.states)))
    bench.arm()
    bench.pause("a", "b")
    bench.hypervisor.before["resume", "a"] = lambda: threading.Event().wait(0.1)
    bench.die()
    assert found == [{"a": RUNNING, "b": RUNNING, "c": RUNNING}]


def test_disarmed_it_ends_no_update(bench, monkeypatch):
    """What a good update left running belongs to the host."""
    found = []
    monkeypatch.setattr(Family, "end", lambda family: found.append(family))
    bench.arm()
    bench.ask({"disarm": {}})
    bench.die()
    assert found == []


def test_threads_and_connections_are_there_before_it_says_armed(bench, monkeypatch):
    """For every guest at once; without them nothing is paused."""
    monkeypatch.setattr(fanout, "_idle", [])
    assert bench.arm(names="abc") == {"to": "arm"}
    assert len(fanout._idle) >= 3 * 2 + 1
    assert bench.hypervisor.most_ready >= 3
    monkeypatch.setattr(fanout, "_idle", [])
    with monkeypatch.context() as patch:
        _fails(threading.Thread, "start", RuntimeError("can't start new thread"))(
            SimpleNamespace(patch=patch)
        )
        assert "thread" in bench.arm(names="abc")["error"]


def test_nothing_that_the_run_says_ends_it(bench):
    """It is still armed, and rescues."""
    bench.arm(names="a")
    for packet in (b"{", b"[]", b"7", b'{"arm": {"until_ns": "x"}}'):
        bench.run.send(packet)
    bench.pause("a")
    bench.die()
    assert bench.hypervisor.states["a"] is RUNNING


def test_a_guardian_that_cannot_connect_is_known_before_the_pause(tmp_path):
    """A real process: it ends at once, and `arm` says so."""
    with GuardianProcess("test:///nonexistent/node.xml", tmp_path) as guard:
        with pytest.raises(GuardianLost, match="nothing was paused"):
            guard.arm(30, "mark", (), 60.0)
        assert guard.lost


def test_a_guardian_that_works_answers_and_ends_with_the_run(tmp_path):
    """A real process, on libvirt's test driver."""
    with Journal(tmp_path, "run") as journal:
        journal.intend(entries.RunStarted())
    with GuardianProcess("test:///default", tmp_path) as guard:
        guard.arm(30, "mark", (), 60.0)
        assert not guard.lost
        (pid,) = _children()
        assert b"MALLOC_ARENA_MAX=1" in Path("/proc", pid, "environ").read_bytes().split(b"\0")
        assert Path("/proc", pid, "fd", "2").readlink() == tmp_path / LOG
        guard.disarm()
    assert guard._wait(5) == 0


def test_what_the_process_does_from_its_arguments_to_its_end(tmp_path, monkeypatch):
    """On libvirt's test driver, whose guest is really paused and resumed."""
    monkeypatch.setattr(guardian, "settle_process", lambda: None)  # it is ours, here
    monkeypatch.setattr(guardian, "_outlive", lambda: None)
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    uri, until = "test:///default", Deadline.after(10)
    run, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = threading.Thread(
        target=guardian.main, args=(uri, str(tmp_path), str(theirs.detach())), daemon=True
    )
    hypervisor = LibvirtHypervisor.open(uri, until)
    with closing(hypervisor), Journal(tmp_path, "run") as journal:
        found = hypervisor.find("test", until)
        guest = Member(found.name, found.uuid)
        journal.intend(entries.Pausing((guest,)))
        process.start()
        until_ns = SYSTEM_CLOCK.monotonic_ns() + 60 * NS_PER_S
        request = {"until_ns": until_ns, "mark": "m", "guests": as_data([guest])}
        request["patience_s"] = 60.0
        run.settimeout(10)
        run.send(json.dumps({"arm": request}).encode())
        assert json.loads(run.recv(1000)) == {"to": "arm"}
        hypervisor.pause(guest.uuid, until)
        run.close()
        process.join(10)
        assert hypervisor.state(guest.uuid, until).state is RUNNING
    assert ended == [0]
    told = read(tmp_path / "journal.jsonl").entries
    assert entries.Resumed(guest.name, guest.uuid, "guardian") in told
    assert entries.Rescue("the run is gone") in told


def test_it_is_small_and_the_last_to_be_killed_for_memory(tmp_path, monkeypatch):
    """A real process: what it holds in memory is stated in docs/explanation/reliability.md."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    for _ in range(2):  # the first may compile what it loads, which takes 7 MiB
        with GuardianProcess("test:///default", tmp_path) as guard:
            guard.arm(30, "mark", (), 60.0)
            (pid,) = _children()
            proc = Path("/proc", pid)
            status = (proc / "status").read_text()
            resident = re.search(r"VmRSS:\s+(\d+)", status)
            ignored = int(re.search(r"SigIgn:\s+(\w+)", status)[1], 16)
            score = (proc / "oom_score_adj").read_text().strip()
        guard._wait(10)
    assert int(resident[1]) <= 40 * 1024
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        assert ignored >> (number - 1) & 1, f"{number.name} would end it"
    if _may_be_protected():
        assert score == "-900"


def _children() -> list[str]:
    """The pids of those that run the guardian's program."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = [pid for file in found for pid in file.read_text().split()]
    return [pid for pid in pids if b"pause.guardian" in Path("/proc", pid, "cmdline").read_bytes()]


def _may_be_protected() -> bool:
    """Whether this user may make a process harder to kill."""
    command = ["sh", "-c", "echo -900 > /proc/self/oom_score_adj"]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_it_asks_to_be_the_last_to_be_killed_for_memory(monkeypatch):
    """Also where this user may not have it so: what is asked of the kernel counts."""
    asked = []
    monkeypatch.setattr(Path, "write_text", lambda path, text, **_: asked.append((str(path), text)))
    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    guardian._outlive()
    assert ("/proc/self/oom_score_adj", "-900") in asked
