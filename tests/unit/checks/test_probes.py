"""Probes on this machine: the programs for guests are real, and so is what is done to them."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from subprocess import PIPE
from typing import Any, cast

import pytest

from harness.checks import CHECKS
from harness.checks.canary import Canary
from harness.checks.custom import Ended, OwnChecks
from harness.checks.disk import DiskWriter
from harness.checks.downtime import Downtime
from harness.checks.evidence import Missing
from harness.checks.guest_life import Life
from harness.checks.probes import PROBES, probes_for
from harness.checks.probes import canary as canary_probe
from harness.checks.probes import downtime as downtime_probe
from harness.checks.probes import ram as ram_probe
from harness.checks.probes import vcpus as vcpus_probe
from harness.checks.probes.downtime import DowntimeProbe, Way, _checksum
from harness.checks.probes.group import GuestProbes
from harness.checks.probes.protocol import Probe, Scene
from harness.checks.probes.tcp_session import TcpProbe
from harness.checks.probes.timers import parse_units
from harness.checks.ram import Residency, judge
from harness.checks.tcp_session import TcpSession
from harness.checks.timers import Timers
from harness.checks.vcpus import VcpuTime
from harness.checks.vcpus import judge as judge_vcpus
from harness.core.errors import ConfigError, DeadlineExpired, ProbeError
from harness.core.process_stat import start_ticks
from harness.core.settings import ChecksSection, Config, OwnCheckSection
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline, NotYet, wait_for
from harness.guest.facts import GuestFacts
from harness.guest.machine import Machine
from harness.host import qemu_memory
from harness.host.protocol import ProcessIdentity
from harness.host.qemu_memory import (
    is_alive,
    is_set_aside,
    ram_resident,
    resident,
    vcpu_threads,
)
from harness.maintenance.survey import survey
from harness.testing.clock import FakeClock
from harness.testing.evidence import GOOD
from harness.testing.hypervisor import FakeHypervisor
from harness.testing.local_shell import LocalShell
from harness.updates.stand_in import StandInSettings, StandInUpdate

ME = ProcessIdentity(os.getpid(), start_ticks(os.getpid()))
HERE = Machine(ssh_address="127.0.0.1")
FACTS = GuestFacts("boot", "6.1", "tsc", 0, ("python3", "sh"), None, machine=HERE)
BARE = replace(FACTS, interpreters=("sh",))


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder on a disk, as the disk writer needs: that of a test may be in memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def scene(tmp_path, disk):
    """``scene(disk_folder="/x")``: this machine as a guest; everything is closed afterwards."""
    made = []

    def make(facts=FACTS, own=(), **settings):
        here = {"disk_folder": str(disk), "long_running_s": 0.0, **settings}
        made.append(
            Scene(
                name="here",
                uuid="uuid-here",
                address="127.0.0.1",
                remote=LocalShell(),
                facts=facts,
                process=ME,
                settings=ChecksSection(**here),
                folder=tmp_path / "kept",
                update_domain=("here", "there"),
                own=own,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.remote.close()


def through(
    scene: Scene, *names: str, probes=(), process=ME, meanwhile=lambda: None
) -> dict[type, Any]:
    """A pause that is none: start, both edges, what is done meanwhile, stop."""
    watch = GuestProbes(scene, probes or probes_for(names))
    watch.start(process, Deadline.after(30))
    watch.mark(Deadline.after(30))
    watch.pausing()
    watch.paused()
    SYSTEM_CLOCK.sleep(0.25)
    meanwhile()
    watch.resuming()
    return dict(watch.stop(Deadline.after(30)))


def test_everybody_tells_and_leaves_nothing_behind(scene, disk):
    """All probes at once, as in a run; the vCPU threads are the one thing we lack here."""
    here = scene()
    told = through(here, *CHECKS)
    assert told.keys() == {probe.tells for probe in PROBES}
    assert isinstance(told[VcpuTime], Missing)
    del told[VcpuTime]
    for kind, testimony in told.items():
        assert isinstance(testimony, kind), testimony
    assert told[Canary].before == told[Canary].after
    assert told[Canary].size_bytes == 1 << 20
    written = told[DiskWriter]
    assert (written.lost, written.torn, written.problem) == (0, 0, None)
    assert written.acknowledged > written.at_first_look >= 2
    session = told[TcpSession]
    assert (session.over, session.wrong, session.broken) == ("tcp", 0, None)
    assert session.sent == session.answered > session.answered_after >= 1
    assert told[Downtime].kind in ("icmp", "udp")
    assert told[Downtime].silent_s < 5
    assert told[Timers].fired > 0
    assert (os.getpid(), ME.start_ticks) in told[Life].long_running()
    assert told[Residency].after.rss_bytes > 1 << 20
    assert not list(disk.iterdir())
    assert [stream.process.returncode for stream in here.remote.streams] == [0]


def test_a_guest_with_only_a_shell_is_watched_as_far_as_it_goes(scene):
    """The rest is skipped with the reason, known before the pause."""
    here = scene(BARE)
    told = through(here, *CHECKS)
    assert told[Canary].before == told[Canary].after
    assert told[TcpSession].over == "ssh"
    assert len(here.remote.streams) == 2, "a channel each for the session and for all else"
    assert told[TcpSession].sent == told[TcpSession].answered > 0
    assert isinstance(told[Life], Life)
    for kind in (DiskWriter, Timers):
        assert told[kind] == Missing("the guest has no python3", known_before=True)


def test_what_a_shell_holds_is_known_to_the_host(scene, monkeypatch):
    """A shell that holds something else is no canary; nor is one that cannot tell."""
    assert through(scene(BARE), "canary")[Canary].size_bytes > 16384
    monkeypatch.setattr(canary_probe, "shell_pattern", lambda key: b"something else")
    told = through(scene(BARE), "canary")[Canary]
    assert told.known_before
    assert "not what it should be" in told.reason


def test_only_those_who_are_needed_watch():
    """And one for two checks watches once; the user's own are always asked."""
    kinds = {probe.tells for probe in probes_for(("mounts", "processes", "clock"))}
    assert kinds == {Life, OwnChecks}


def test_an_interpreter_that_dies_is_an_error_and_not_a_pass(scene):
    """Killed in the pause; whoever does not need it tells all the same."""
    here = scene()
    kill = lambda: here.remote.streams[0].process.kill()  # noqa: E731
    told = through(here, "canary", "ram", meanwhile=kill)
    assert not told[Canary].known_before
    assert isinstance(told[Residency], Residency)


def test_a_process_that_cannot_be_seen_is_a_reason_to_skip(scene):
    """A remote host, or no right."""
    told = through(scene(), "ram", "vcpus", process=None)
    assert told[Residency] == told[VcpuTime]
    assert told[Residency].known_before


LIKE_QEMU = """
import mmap, sys
ram, table = mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE), mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE)
ram.madvise(mmap.MADV_DONTFORK)
ram.write(b"x" * len(ram)), table.write(b"x" * len(table))
print("paused", flush=True)
for line in sys.stdin:
    {"ram": lambda: ram.madvise(mmap.MADV_DONTNEED), "table": table.close}[line.strip()]()
    print("done", flush=True)
"""


@pytest.mark.parametrize(("freed", "outcome"), [("table", "pass"), ("ram", "fail")])
def test_what_qemu_frees_of_its_own_in_the_pause_is_no_loss_of_the_guest(scene, freed, outcome):
    """Tables of 64 MiB in one go, as a QEMU that emulates does; of RAM, half as much is a loss."""
    program = [sys.executable, "-c", LIKE_QEMU]
    with subprocess.Popen(program, stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as process:
        assert process.stdout.readline() == "paused\n"
        here = ProcessIdentity(process.pid, start_ticks(process.pid))

        def free() -> None:
            process.stdin.write(freed + "\n")
            assert process.stdout.readline() == "done\n"

        told = through(scene(), "ram", process=here, meanwhile=free)
        process.stdin.close()
    record = judge(replace(GOOD, testimony={Residency: told[Residency]}))
    assert record.outcome == outcome, record
    assert "RAM alone 32.0 MiB → " in record.detail


def test_ram_alone_is_not_looked_at_in_a_pause_in_which_nothing_shrank(scene, monkeypatch):
    """Nor again before it where one look took too long: guests wait for each."""
    told = through(scene(), "ram")[Residency]
    assert told.paused.ram_bytes is told.resuming.ram_bytes is None
    looks = []
    monkeypatch.setattr(ram_probe, "ram_resident", lambda pid: looks.append(pid) or 1 << 20)
    monkeypatch.setattr(ram_probe, "WORTH_NS", 0)
    monkeypatch.setattr(ram_probe, "shrank", lambda paused, resuming: True)
    told = through(scene(), "ram")[Residency]
    assert (len(looks), told.resuming.ram_bytes) == (1, None)
    assert "RAM alone" not in judge(replace(GOOD, testimony={Residency: told})).detail


@pytest.mark.parametrize(
    ("took_s", "looks", "worth"),
    [((0.01,), 1, True), ((0.1, 0.01), 2, True), ((0.1, 0.2), 2, False), ((2.0,), 1, False)],
)
def test_ram_alone_is_looked_at_once_before_the_pause(scene, monkeypatch, took_s, looks, worth):
    """It is work for the host, for each guest; twice where the host may have been busy."""
    clock = FakeClock()
    seen: list[int] = []
    lasts = [*took_s, 0.0]

    def look(pid: int) -> int:
        clock.sleep(lasts[len(seen)])
        seen.append(pid)
        return 1 << 20

    monkeypatch.setattr(ram_probe, "SYSTEM_CLOCK", clock)
    monkeypatch.setattr(ram_probe, "ram_resident", look)
    monkeypatch.setattr(ram_probe, "shrank", lambda paused, resuming: True)
    probe = ram_probe.ResidencyProbe()
    probe.start(replace(scene(), process=ME), Deadline.after(30))
    probe.mark(Deadline.after(30))
    assert len(seen) == looks
    probe.paused()
    probe.resuming()
    told = probe.stop(Deadline.after(30))
    assert (told.before.ram_bytes, told.resuming.ram_bytes is not None) == (1 << 20, worth)


BUSY = """
import ctypes, sys, threading, time
def vcpu():
    ctypes.CDLL(None).prctl(15, b"CPU 0/TCG", 0, 0, 0)
    print("idle", flush=True)
    sys.stdin.readline()
    print("busy", flush=True)
    while time.thread_time() < float(sys.argv[1]):
        pass
    threading.Event().wait()
threading.Thread(target=vcpu, daemon=True).start()
threading.Event().wait()
"""


@pytest.mark.parametrize(("busy_s", "patience_s", "outcome"), [(0.1, 30, "pass"), (9, 0, "fail")])
def test_a_vcpu_has_its_last_work_done_before_it_is_watched(
    scene, monkeypatch, busy_s, patience_s, outcome
):
    """QEMU says "stopped" a little early; one that goes on working is not paused at all."""
    monkeypatch.setattr(vcpus_probe, "FALLING_ASLEEP_S", patience_s)
    program = [sys.executable, "-c", BUSY, str(busy_s)]
    with subprocess.Popen(program, stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as process:
        try:
            assert process.stdout.readline() == "idle\n"
            watch = GuestProbes(scene(), probes_for(("vcpus",)))
            here = ProcessIdentity(process.pid, start_ticks(process.pid))
            watch.start(here, Deadline.after(30))
            process.stdin.write("\n")
            assert process.stdout.readline() == "busy\n"
            watch.paused()
            SYSTEM_CLOCK.sleep(0.25)
            watch.resuming()
            told = dict(watch.stop(Deadline.after(30)))
        finally:
            process.kill()
    record = judge_vcpus(replace(GOOD, testimony=told))
    assert record.outcome == outcome, record


def test_a_disk_that_is_ram_is_not_written_to(scene):
    """A RAM disk proves nothing about disks."""
    told = through(scene(disk_folder="/dev/shm"), "disk")
    assert told[DiskWriter] == Missing("/dev/shm is in RAM (tmpfs)", known_before=True)
    told = through(scene(disk_folder="/no such folder"), "disk")
    assert "FileNotFoundError" in told[DiskWriter].reason


def test_a_block_that_changes_is_torn_and_one_of_zeros_is_lost(scene, disk):
    """What the disk returns is compared with what was written."""

    def hurt():
        (file,) = disk.glob(".harness-disk-*")
        with open(file, "r+b") as blocks:
            blocks.write(bytes(4096))
            blocks.seek(4096 + 100)
            blocks.write(b"?")

    told = through(scene(), "disk", meanwhile=hurt)[DiskWriter]
    assert (told.lost, told.torn) == (1, 1)


def test_a_disk_that_takes_no_more_is_a_broken_promise(scene):
    """The error of the write is told, as the guest told it."""
    here = scene()

    def fill():
        pid = here.remote.streams[0].process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, 4096))

    told = through(here, "disk", meanwhile=fill)[DiskWriter]
    assert told.problem == "[Errno 27] File too large"


def test_after_a_question_without_an_answer_nothing_more_is_asked(scene):
    """An answer that comes late would be taken for that to the next question."""
    here = scene()
    here.parts = frozenset({"canary"})
    assert here.ask("fill 00 4096", Deadline.after(20)) == "ok"
    stream = here.remote.streams[0]
    stream.ask = lambda question, deadline: (_ for _ in ()).throw(DeadlineExpired("asking", 1.0))
    with pytest.raises(DeadlineExpired):
        here.ask("digest", Deadline.after(1))
    del stream.ask
    with pytest.raises(DeadlineExpired):
        here.ask("digest", Deadline.after(20))
    here.close()


class Wrong(Probe):
    """A probe that raises what it is told to, where it is told to."""

    tells = Canary

    def __init__(self, where: str, error: Exception) -> None:
        self.where, self.error, self.closed = where, error, 0

    def _maybe(self, where: str) -> None:
        if where == self.where:
            raise self.error

    def start(self, scene, deadline):
        self._maybe("start")

    def mark(self, deadline):
        self._maybe("mark")

    def paused(self):
        self._maybe("paused")

    def resuming(self):
        self._maybe("resuming")

    def stop(self, deadline):
        self._maybe("stop")
        return Canary(1, "a", "a")

    def close(self):
        self.closed += 1


@pytest.mark.parametrize(
    ("where", "known_before"), [("start", True), ("mark", True), ("stop", False)]
)
@pytest.mark.parametrize("error", [ProbeError("no"), ValueError("no"), OSError("no")])
def test_a_probe_that_fails_is_missing_and_lets_go(scene, where, known_before, error):
    """Before the pause it is a reason to skip, after it one for an error; nonsense is one, too."""
    wrong = Wrong(where, error)
    watch = GuestProbes(scene(), [wrong])
    watch.start(None, Deadline.after(5))
    watch.mark(Deadline.after(5))
    told: dict[Any, Any] = dict(watch.stop(Deadline.after(5)))
    assert told[Canary].known_before is known_before
    assert told[Canary].reason.endswith("no")
    assert wrong.closed


@pytest.mark.parametrize("edge", ["paused", "resuming"])
def test_nothing_that_a_probe_does_keeps_a_guest_from_its_resume(scene, edge):
    """Not even a bug of ours: it costs the testimony at most."""
    watch = GuestProbes(scene(), [Wrong(edge, ZeroDivisionError("a bug"))])
    getattr(watch, edge)()


def test_probes_that_were_never_asked_are_silent_and_not_absent(scene):
    """The guest was not resumed by us, or fell silent for good."""
    watch = GuestProbes(scene(BARE), probes_for(("disk", "canary")))
    watch.start(None, Deadline.after(20))
    watch.mark(Deadline.after(20))
    told: dict[Any, Any] = dict(watch.silence())
    watch.close()
    assert (told[DiskWriter].known_before, told[Canary].known_before) == (True, False)


def own(tmp_path, body: str, **settings) -> OwnCheckSection:
    program = tmp_path / "own.sh"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return OwnCheckSection(name="a/b", command=(str(program), "an argument; $x"), **settings)


def test_the_users_own_is_run_before_during_and_after(scene, tmp_path):
    """No shell, its environment, its output kept; the name is data."""
    mine = own(tmp_path, 'echo "$1|$HARNESS_STAGE|$HARNESS_GUEST|$HARNESS_GUESTS"')
    told = through(scene(own=(mine,)))[OwnChecks]
    assert told.ended == {"a/b": (Ended("before", 0), Ended("during", 0), Ended("after", 0))}
    for stage in ("before", "during", "after"):
        text = (tmp_path / "kept" / f"own-a%2Fb-{stage}.log").read_text()
        assert text == f'an argument; $x|{stage}|here|["here", "there"]\n'


def test_one_that_does_not_end_is_ended_and_could_not_judge(scene, tmp_path):
    """With what it has started."""
    mine = own(tmp_path, "sleep 600 & wait", timeout_s=0.3, stages=("after",))
    (ended,) = through(scene(own=(mine,)))[OwnChecks].ended["a/b"]
    assert (ended.status, "did not end within" in ended.problem) == (None, True)


def test_one_that_skips_before_is_not_run_again(scene, tmp_path):
    """77, as test programs have it; and one that cannot be started could not judge."""
    told = through(scene(own=(own(tmp_path, "exit 77"),)))[OwnChecks]
    assert told.ended == {"a/b": (Ended("before", 77),)}
    gone = OwnCheckSection(name="x", command=("/no/such/program",), stages=("before",))
    (ended,) = through(scene(own=(gone,)))[OwnChecks].ended["x"]
    assert ended.status is None


def fake_proc(tmp_path: Path, threads: dict[str, str]) -> Path:
    for thread, name in threads.items():
        folder = tmp_path / "7" / "task" / thread
        folder.mkdir(parents=True)
        (folder / "comm").write_text(name + "\n")
    fields = " ".join(str(number) for number in range(3, 53))
    (tmp_path / "7" / "stat").write_text(f"7 (qemu (x) y) {fields}\n")
    (tmp_path / "7" / "status").write_text("Name:\tqemu\nVmRSS:\t  300 kB\nVmSwap:\t  8 kB\n")
    return tmp_path


def test_the_memory_and_the_threads_of_qemu_are_read_from_proc(tmp_path):
    """Field 12 of stat is the major faults; the threads are known by QEMU's names for them."""
    names = {"7": "qemu-system-x86", "8": "CPU 0/TCG", "9": "CPU 1/KVM", "10": "IO mon_iothread"}
    proc = fake_proc(tmp_path, names)
    seen = resident(7, proc)
    assert (seen.rss_bytes, seen.swap_bytes) == (300 * 1024, 8 * 1024)
    assert seen.major_fault_bytes == 12 * os.sysconf("SC_PAGE_SIZE")
    assert vcpu_threads(7, proc) == (8, 9)
    assert is_alive(ProcessIdentity(7, 22), proc)
    assert not is_alive(ProcessIdentity(7, 23), proc)
    assert not is_alive(ProcessIdentity(6, 22), proc)


def test_ram_is_the_mappings_that_no_child_gets(tmp_path):
    """Huge pages of hugetlbfs are in no Rss; a process without such a mapping is no QEMU."""
    proc = fake_proc(tmp_path, {"7": "qemu-system-x86"})
    mappings = (("rd wr dc hg", 100, 0), ("rd wr mr", 900, 0), ("rd wr dc ht", 0, 2048))
    (proc / "7" / "smaps").write_text(
        "".join(
            f"7f00-7f01 rw-p 00000000 00:00 0 \nSize: 9 kB\nRss: {rss} kB\nPss: 5 kB\n"
            f"Shared_Hugetlb: {huge} kB\nPrivate_Hugetlb: 0 kB\nVmFlags: {flags} \n"
            for flags, rss, huge in mappings
        )
    )
    assert ram_resident(7, proc) == (100 + 2048) * 1024
    (proc / "7" / "smaps").write_text("7f00-7f01 rw-p 0 00:00 0\nRss: 4 kB\nVmFlags: rd wr mr\n")
    assert ram_resident(7, proc) is None


def test_ram_on_memory_that_was_set_aside_is_told_from_any_other(tmp_path, monkeypatch):
    """By the mounts of the files that a process maps, whatever they are called, gone or not."""
    proc = fake_proc(tmp_path, {"7": "qemu-system-x86"})
    assert not is_set_aside(7, proc)
    maps = proc / "7" / "maps"
    maps.write_text(
        "7f00-7f01 rw-s 00000000 103:00 12 /ram/1-a b/pc.ram\n7f02-7f03 rw-p 0 00:00 0 [heap]\n"
        "7f04-7f05 r-xp 0 08:01 9 /usr/bin/qemu (deleted)\n7f06-7f07 rw-p 0 00:00 0\n"
    )
    kinds = {"/ram/1-a b": "dax"}
    monkeypatch.setattr(qemu_memory, "file_system", lambda path: kinds.get(str(path)))
    assert is_set_aside(7, proc)
    kinds["/ram/1-a b"] = "tmpfs"
    assert not is_set_aside(7, proc)


def test_a_process_without_memory_has_lost_none(tmp_path):
    """It has ended, and waits to be waited for: nothing is known of its RAM."""
    proc = fake_proc(tmp_path, {"7": "qemu-system-x86"})
    (proc / "7" / "status").write_text("Name:\tqemu\nState:\tZ (zombie)\n")
    with pytest.raises(ValueError, match="process 7 has no memory"):
        resident(7, proc)


def test_what_systemctl_prints_is_taken_apart():
    """Blocks with an empty line between; nothing is no unit."""
    text = "Id=a.timer\nActiveState=active\nLastTriggerUSec=x\n\nId=b.timer\nActiveState=failed\n"
    assert parse_units(text).found == {"a.timer": ("active", "x"), "b.timer": ("failed", "")}
    assert parse_units("") is None


def test_the_checksum_of_an_echo_request_is_that_of_the_internet():
    """The example of RFC 1071, and a message with its checksum in it sums up to zero."""
    data = bytes([0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7])
    assert _checksum(data) == 0x220D
    assert _checksum(data + (0x220D).to_bytes(2, "big")) == 0


def test_no_thread_is_left(scene):
    """Of those who watch from a thread of their own."""
    before = set(threading.enumerate())
    through(scene(), "downtime", "tcp-session")
    SYSTEM_CLOCK.sleep(0.2)
    assert set(threading.enumerate()) <= before


def test_an_answer_counts_from_when_the_kernel_had_it():
    """However late we come to read it: a busy host is no guest that answers in its pause."""
    ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with ours, theirs:
        for end in (ours, theirs):
            end.bind(("127.0.0.1", 0))
        ours.connect(theirs.getsockname())
        way = Way("udp", ours, b"token")

        def read_late():
            theirs.sendto(b"token", ours.getsockname())
            sent_ns = SYSTEM_CLOCK.monotonic_ns()
            SYSTEM_CLOCK.sleep(0.2)
            if way.answer_ns(1.0) > sent_ns + NS_PER_S // 10:
                raise NotYet("the answer counted from when it was read")

        # Linux begins to stamp packets a moment after the first socket asked for it.
        wait_for(read_late, what="a stamp by the kernel", deadline=Deadline.after(10))
        theirs.sendto(b"somebody else's", ours.getsockname())
        assert way.answer_ns(0.1) is None
        assert way.answer_ns(0.01) is None


class Echo:
    """A way to a guest that answers at once, unless it is paused; what was asked, and when."""

    kind = "icmp"

    def __init__(self) -> None:
        self.sent_ns: list[int] = []
        self.silent, self.waiting = False, 0
        self.answers = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)

    def fileno(self) -> int:
        return self.answers

    def works(self) -> bool:
        return True

    def send(self, number: int) -> None:
        self.sent_ns.append(SYSTEM_CLOCK.monotonic_ns())
        self.waiting += 1
        if not self.silent:
            self.wake()

    def wake(self) -> None:
        """Answer what was asked."""
        self.silent = False
        os.eventfd_write(self.answers, self.waiting)
        self.waiting = 0

    def answer_ns(self, wait_s: float) -> int | None:
        try:
            os.eventfd_read(self.answers)
        except BlockingIOError:
            return None
        return SYSTEM_CLOCK.monotonic_ns()

    def close(self) -> None:
        os.close(self.answers)

    def asked_every_s(self) -> float:
        """How long it is between two questions from now on: the median of some."""
        before = len(self.sent_ns)
        wait_for(
            lambda: self._more_than(before + 10), what="questions", deadline=Deadline.after(60)
        )
        asked = self.sent_ns[before : before + 11]
        return median(b - a for a, b in zip(asked, asked[1:], strict=False)) / NS_PER_S

    def _more_than(self, count: int) -> None:
        if len(self.sent_ns) <= count:
            raise NotYet(f"{len(self.sent_ns)} questions")


def test_a_guest_is_asked_quickly_only_right_before_its_pause(scene):
    """What is asked in its pause waits for its resume, and is work for it just then; so is more."""
    way = Echo()
    watch = DowntimeProbe(lambda address: cast(Way, way))
    watch.start(scene(), Deadline.after(5))
    before_s = way.asked_every_s()
    watch.pausing()
    edge_s = way.asked_every_s()
    way.silent = True
    way.waiting = 0
    SYSTEM_CLOCK.sleep(0.8)
    silently = way.waiting
    watch.paused()
    SYSTEM_CLOCK.sleep(1.2)
    waiting = way.waiting
    asked = len(way.sent_ns)
    watch.resuming()
    SYSTEM_CLOCK.sleep(0.05)
    nudged = len(way.sent_ns) - asked
    way.wake()
    after_s = way.asked_every_s()
    watch.stop(Deadline.after(5))
    watch.close()
    # A busy machine asks less often than it should, never more.
    assert min(before_s, after_s) > 0.19
    assert after_s < 5, "one of few is asked on: it may fall silent again"
    assert edge_s < before_s / 2
    assert 2 <= silently <= 5, "less and less while it is silent: it may be paused already"
    assert waiting - silently <= 1, "one question waits in the pause"
    assert nudged == 0, "nor at once when it is to be resumed: the others' resumes wait"


@pytest.fixture
def resumed(scene):
    """A guest that has answered what waited for it in its pause, of half a second or so."""
    way = Echo()
    watch = DowntimeProbe(lambda address: cast(Way, way))
    watch.start(replace(scene(), update_domain=tuple(map(str, range(9)))), Deadline.after(5))
    watch.pausing()
    way.asked_every_s()
    way.silent = True
    watch.paused()
    SYSTEM_CLOCK.sleep(0.5)
    watch.resuming()
    way.wake()
    wait_for(lambda: is_back(watch), what="an answer", deadline=Deadline.after(60))
    yield way, watch
    watch.close()


def is_back(watch: DowntimeProbe) -> None:
    if not watch._back:
        raise NotYet("nothing was heard")


def test_a_guest_that_is_back_is_left_alone_until_all_clocks_are_right_and_that_is_no_silence(
    resumed,
):
    """Sixty guests that answer five times a second leave no time to ask for their clocks."""
    way, watch = resumed
    asked = len(way.sent_ns)
    SYSTEM_CLOCK.sleep(2.0)
    assert len(way.sent_ns) == asked
    told: Any = watch.stop(Deadline.after(60))
    assert len(way.sent_ns) > asked
    assert 0.4 < told.silent_s < 1.9
    assert told.answered == told.sent


def test_a_guest_that_died_while_it_was_left_alone_is_not_said_to_answer(resumed, monkeypatch):
    """It was back once; when it is asked in the end it says nothing."""
    monkeypatch.setattr(downtime_probe, "_PATIENCE_S", 1.0)
    way, watch = resumed
    way.silent = True
    SYSTEM_CLOCK.sleep(0.6)
    told: Any = watch.stop(Deadline.after(60))
    assert told.silent_s is None
    assert told.silent_at_least_s == pytest.approx(1.0, abs=0.5), "since it was asked"


def test_many_guests_are_asked_less_quickly_each_and_that_is_told(scene):
    """Sixty, a hundred times a second each, would be paused by cores that only answer."""
    way, here = Echo(), replace(scene(), update_domain=tuple(map(str, range(64))))
    watch = DowntimeProbe(lambda address: cast(Way, way))
    watch.start(here, Deadline.after(5))
    watch.pausing()
    assert way.asked_every_s() > 0.06
    told: Any = watch.stop(Deadline.after(5))
    watch.close()
    assert told.interval_s == pytest.approx(0.064)


def test_all_guests_are_asked_by_one_thread_that_ends_with_the_last(scene):
    """However many there are; a way that breaks, or a bug, is no end of the others."""
    before = set(threading.enumerate())
    ways = [Echo() for _ in range(20)]
    watches = [DowntimeProbe(partial(give, cast(Way, way))) for way in ways]
    for watch in watches:
        watch.start(scene(), Deadline.after(30))
    assert len(set(threading.enumerate()) - before) == 1
    ways[0].send = None  # a bug
    assert ways[1].asked_every_s() < 5
    for watch in watches[1:]:
        assert cast(Any, watch.stop(Deadline.after(30))).answered > 1
    for watch in watches:
        watch.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("facts", [FACTS, BARE], ids=["tcp", "ssh"])
def test_no_message_wakes_a_guest_between_its_pause_and_its_clock(scene, facts):
    """The next is sent when it is asked what was seen, over the same connection."""
    watch = TcpProbe()
    here = scene(facts)
    watch.start(here, Deadline.after(30))
    wait_for(lambda: more_than(watch, 2), what="messages", deadline=Deadline.after(60))
    watch.pausing()
    SYSTEM_CLOCK.sleep(0.3)  # what is on its way
    sent = watch._sent
    for edge in (watch.paused, watch.resuming):
        edge()
        SYSTEM_CLOCK.sleep(0.6)
    assert watch._sent == watch._answered == sent
    told: Any = watch.stop(Deadline.after(60))
    watch.close()
    here.close()
    assert told.sent == told.answered == sent + told.answered_after
    assert (told.wrong, told.broken) == (0, None)
    assert told.answered_after >= 1


def give(way: Way, address: str) -> Way:
    return way


def more_than(watch: TcpProbe, count: int) -> None:
    if watch._sent <= count:
        raise NotYet(f"{watch._sent} messages")


def test_without_icmp_a_process_of_the_guest_is_asked(scene):
    """No right to send it, or a firewall."""
    told = through(scene(), probes=[DowntimeProbe(lambda address: None)])[Downtime]
    assert told.kind == "udp"
    assert told.answered > 0


def test_an_own_check_that_cannot_be_started_is_known_at_plan_time(tmp_path):
    """Like an update's command: before anybody logs in."""
    own = OwnCheckSection(name="db", command=("/no/such/program",))
    config = Config(checks=ChecksSection(own=(own,)))
    with pytest.raises(ConfigError) as caught:
        survey(config, ["here"], FakeHypervisor({}), StandInUpdate(StandInSettings()))
    assert caught.value.key == "checks.own[db].command"
