"""Every promise broken for real, on a real guest, and seen as broken: the negative controls.

That all of them are kept by a good run is in test_run.py. Requires: the session's lab. Leaves
behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import socket
import struct
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.checks import CHECKS
from harness.checks.probes import probes_for
from harness.checks.probes.canary import CanaryProbe, pattern
from harness.checks.probes.group import GuestProbes
from harness.checks.probes.protocol import Scene
from harness.checks.probes.tcp_session import TcpProbe
from harness.clock.correction import correct
from harness.clock.policy import CorrectionPolicy
from harness.core.config import load
from harness.core.paths import state_dir
from harness.core.settings import ChecksSection
from harness.core.timebase import SYSTEM_CLOCK, Deadline, Stopwatch
from harness.guest.connector import SshConnector
from harness.guest.kernel_log import look_again, mark
from harness.lab import guests as labs
from harness.lab.domain import domain_xml
from harness.lab.specs import GuestSpec
from harness.maintenance.events_told import events_told
from harness.maintenance.guest_access import Login
from harness.maintenance.pause.outcome import GuestPause
from harness.maintenance.session import GuestSession
from harness.results.folder import find_run
from harness.testing.evidence import GOOD
from harness.updates.registry import FULL_CONFIG
from tests.clocks import set_right

AGENT = "[c]ommands, endings"


class Pause:
    """One guest with its probes, to be led through a pause and hurt on the way."""

    def __init__(self, guest, libvirt, folder, checks, **settings):
        self.guest, self.libvirt, self.uuid = guest, libvirt, guest.info.uuid
        self.checks = checks
        self.probes = probes_for(checks)
        self.process = libvirt.process(self.uuid, Deadline.after(5))
        scene = Scene(
            name=guest.name,
            uuid=self.uuid,
            address=guest.address,
            remote=guest.shell,
            facts=guest.facts,
            process=None,
            settings=ChecksSection(**settings),
            folder=folder,
        )
        self.group = GuestProbes(scene, self.probes)

    def run(self, script: str) -> str:
        """A command in the guest, beside its probes."""
        return self.guest.shell.run(script, Deadline.after(30)).stdout

    def probe(self, kind):
        return next(one for one in self.probes if isinstance(one, kind))

    def through(self, *, paused=lambda: None, after=lambda: None, pause_s=0.5) -> dict:
        """Pause, ``paused``, resume, ``after``; the verdicts by name. Mends the clock."""
        clock_before = self.guest.sampler.read(4, Deadline.after(20))
        self.group.pausing()
        began_ns = SYSTEM_CLOCK.monotonic_ns()
        outer = Stopwatch()
        self.libvirt.pause(self.uuid, Deadline.after(20))
        self.group.paused()
        inner, pause = Stopwatch(), GuestPause(began_ns, SYSTEM_CLOCK.monotonic_ns())
        try:
            SYSTEM_CLOCK.sleep(pause_s)
            paused()
        finally:
            at_least_s = inner.elapsed_s()
            self.group.resuming()
            self.libvirt.resume(self.uuid, Deadline.after(20))
        at_most_s = outer.elapsed_s()
        try:
            clock_after = self.guest.sampler.read(4, Deadline.after(20))
            after()
            told = self.group.stop(Deadline.after(40))
        finally:
            policy = CorrectionPolicy(self.guest.tolerance_s, allow_backward=True)
            correct(self.guest.reach, policy, Deadline.after(30))
        evidence = replace(
            GOOD,
            testimony=told,
            paused_at_least_s=at_least_s,
            paused_at_most_s=at_most_s,
            clock_before=clock_before,
            clock_after_resume=clock_after,
            events=events_told(self.uuid, pause, self.libvirt, 5.0),
        )
        return {name: CHECKS[name](evidence) for name in self.checks}


@pytest.fixture(scope="module")
def guest_of(lab, libvirt):
    """``guest_of("debian-1")``: a login for all tests of this module."""
    config = load(lab.config_file, environment={}, flags={}, model=FULL_CONFIG).config

    @cache
    def log_in(name):
        deadline = Deadline.after(30)
        info = libvirt.find(name, deadline)
        section = config.for_guest(info.name, info.uuid)
        login = Login(info, section, config.ssh, libvirt, SshConnector())
        guest = GuestSession.open(login, config.clock, deadline)
        opened.append(guest)
        return guest

    opened: list[Any] = []
    yield log_in
    for guest in opened:
        guest.close()


@pytest.fixture
def pause_of(guest_of, libvirt, tmp_path):
    """``pause_of("debian-1", "ram")``: that guest, its probes for these checks started."""
    made = []

    def make(name, *checks, **settings):
        pause = Pause(guest_of(name), libvirt, tmp_path, checks, **settings)
        pause.group.start(pause.process, Deadline.after(60))
        pause.group.mark(Deadline.after(60))
        made.append(pause)
        return pause

    yield make
    for pause in made:
        pause.group.close()


@contextmanager
def nft(*rules: str):
    """A table of ours in this namespace's packet filter."""
    text = "table inet harness_test {\n" + "\n".join(rules) + "\n}\n"
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "harness_test"], check=True)


@contextmanager
def swap_file(path: Path, mebibytes: int):
    """A swap file, so that there is somewhere to swap to."""
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, mebibytes << 20)
    path.chmod(0o600)
    subprocess.run(["mkswap", path], check=True, capture_output=True)
    subprocess.run(["swapon", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["swapoff", path], check=True)
        path.unlink()


@contextmanager
def patience_of_tcp(milliseconds: int):
    """How far apart it sends again, in this network namespace: a reset peer is noticed sooner."""
    file = Path("/proc/sys/net/ipv4/tcp_rto_max_ms")  # Linux 6.15; without it, it just takes longer
    before = file.read_text() if file.exists() else None
    try:
        if before is not None:
            file.write_text(str(milliseconds))
        yield
    finally:
        if before is not None:
            file.write_text(before)


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def page_out(pid: int) -> None:
    """process_madvise(MADV_PAGEOUT) of the largest writable mapping: the guest's RAM."""
    sizes = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
        if found:
            start, end = (int(text, 16) for text in found.groups())
            sizes[end - start] = start
    length = max(sizes)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    handle = os.pidfd_open(pid)
    vector = IoVec(sizes[length], length)
    done = libc.syscall(440, handle, ctypes.byref(vector), ctypes.c_size_t(1), 21, 0)
    error = ctypes.get_errno()
    os.close(handle)
    assert done >= 0, os.strerror(error)


def test_ram_that_is_swapped_out_during_the_pause_fails_with_the_amount(pause_of):
    """By the kernel, at our request, into a swap file of ours."""
    pause = pause_of("tiny-2", "ram")
    with swap_file(Path(f"/var/tmp/harness-test-swap.{os.getpid()}"), 300):
        verdict = pause.through(paused=lambda: page_out(pause.process.pid))["ram"]
    assert verdict.outcome == "fail", verdict
    assert verdict.measured > 16 << 20
    assert "RAM alone" in verdict.detail, "its mappings were not told from QEMU's own"


def test_a_guest_that_went_to_disk_and_back_is_another_process_and_not_ours(
    harness, lab, libvirt, script, tmp_path
):
    """Saved and restored paused by the update: custody is over; it stays so, and is said to be."""
    file, virsh = tmp_path / "saved", f"virsh -c {lab.uri}"
    update = script(f"{virsh} save tiny-2 {file} && {virsh} restore {file} --paused")
    ended = harness("run", "tiny-2", "--update", update, "--json")
    try:
        (record,) = ended.record["guests"]
        assert (ended.code, record["still_paused"]) == (4, True), ended.err
        assert "STILL PAUSED: tiny-2" in ended.err
        assert "started again" in record["problems"][0]
        verdicts = {check["name"]: check["outcome"] for check in record["checks"]}
        assert verdicts["same-process"] == "fail"
    finally:
        uuid = next(guest.uuid for guest in lab.guests if guest.name == "tiny-2")
        libvirt.resume(uuid, Deadline.after(10))
        set_right(["tiny-2"], lab.config_file)
    assert harness("recover").code == 0, "a night would find a dead run"


def test_a_pause_longer_than_its_budget_is_not_within_it(harness):
    """A budget that is over before libvirt has paused anybody."""
    limits = ("--budget", "0.002", "--reserve", "0.001", "--duration", "0", "--expected", "0.0005")
    ended = harness("run", "tiny-2", *limits, "--json")
    verdicts = {c["name"]: c for c in ended.record["guests"][0]["checks"]}
    verdict = verdicts["pause-window"]
    assert verdict["outcome"] == "fail", verdicts
    assert verdict["measured"] > verdict["allowed"] == 0.002
    assert ended.code != 0


def test_a_guest_that_runs_during_its_pause_is_neither_frozen_nor_silent(pause_of, libvirt):
    """Somebody resumes it for a second, and pauses it again."""
    pause = pause_of("debian-1", "vcpus", "downtime", "frozen", "lag", "libvirt-events")

    def wake():
        libvirt.resume(pause.uuid, Deadline.after(10))
        SYSTEM_CLOCK.sleep(1.0)
        libvirt.pause(pause.uuid, Deadline.after(10))

    verdicts = pause.through(paused=wake)
    assert {v.outcome for v in verdicts.values()} == {"fail"}, verdicts
    assert "answered while it was paused" in verdicts["downtime"].detail
    assert verdicts["libvirt-events"].measured == "suspended, resumed, suspended, resumed"


def test_a_guest_that_stays_silent_after_its_pause_was_down_for_longer(pause_of):
    """Its answers are dropped for two seconds more."""
    pause = pause_of("tiny-2", "downtime")
    drop = (
        "chain in { type filter hook input priority 0;",
        f"ip saddr {pause.guest.address} icmp type echo-reply drop; }}",
    )

    def silence():
        with nft(*drop):
            SYSTEM_CLOCK.sleep(2.0)

    verdict = pause.through(after=silence)["downtime"]
    assert verdict.outcome == "fail", verdict
    assert verdict.measured > 2.0


#: Flip one byte of what another process holds, found by its first bytes (argv: pid, hex).
CORRUPT = """
import re, sys
pid, wanted = sys.argv[1], bytes.fromhex(sys.argv[2])
with open("/proc/%s/maps" % pid) as maps, open("/proc/%s/mem" % pid, "r+b", 0) as memory:
    for line in maps:
        start, end, rights = re.match("([0-9a-f]+)-([0-9a-f]+) (..)", line).groups()
        if rights != "rw":
            continue
        start, end = int(start, 16), int(end, 16)
        memory.seek(start)
        try:
            at = memory.read(end - start).find(wanted)
        except OSError:
            continue
        if at >= 0:
            memory.seek(start + at + 5000)
            byte = memory.read(1)[0]
            memory.seek(start + at + 5000)
            memory.write(bytes([byte ^ 1]))
            print("flipped")
"""


def test_one_bit_of_the_guests_memory_that_changed_kills_the_canary(pause_of):
    """Flipped in the memory of the process that holds it."""
    pause = pause_of("debian-1", "canary")
    held = pattern(bytes.fromhex(pause.probe(CanaryProbe).key), 4096)[:64]

    def corrupt():
        program = f"python3 -c {shlex.quote(CORRUPT)} $(pgrep -f '{AGENT}') {held.hex()}"
        assert "flipped" in pause.run(program)

    verdict = pause.through(after=corrupt)["canary"]
    assert verdict.outcome == "fail", verdict


def test_what_died_or_was_unmounted_with_the_pause_is_named(pause_of, guest_of):
    """On a guest with only a shell: a process is killed, a file system unmounted."""
    guest = guest_of("tiny-2")
    start = "mkdir -p /mnt; mount -t tmpfs mine /mnt; sleep 600 >/dev/null 2>&1 & echo $!"
    pid = guest.shell.run(start, Deadline.after(20)).stdout.strip()
    SYSTEM_CLOCK.sleep(1.1)
    pause = pause_of("tiny-2", "processes", "mounts", long_running_s=0.5)
    verdicts = pause.through(after=lambda: pause.run(f"kill {int(pid)}; umount /mnt"))
    assert {v.outcome for v in verdicts.values()} == {"fail"}, verdicts
    assert f"sleep (pid {pid})" in verdicts["processes"].detail
    assert verdicts["mounts"].detail == "/mnt: mine tmpfs rw → gone"


def test_a_connection_that_is_reset_is_noticed_in_the_guest(pause_of, guest_of):
    """Ours to its SSH server, beside the one that we work over."""
    ours = socket.create_connection((guest_of("tiny-2").address, 22), timeout=10)
    ours.recv(100)
    pause = pause_of("tiny-2", "connections")

    def reset():
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ours.close()

    verdict = pause.through(after=reset)["connections"]
    assert (verdict.outcome, verdict.measured) == ("fail", 1), verdict


@contextmanager
def answered_by_a_reset(address: str, port: int):
    """As a firewall does that forgot the session: none of our segments gets through."""
    with nft(
        "chain out { type filter hook output priority 0;",
        f"ip daddr {address} tcp dport {port} reject with tcp reset; }}",
    ):
        yield


@contextmanager
def ended_in_the_pause(address: str, port: int):
    """By the kernel, as it ends a session of which it has heard nothing for too long."""
    subprocess.run(["ss", "-K", "dst", address, "dport", "=", f":{port}"], check=True)
    yield


@pytest.mark.parametrize("cut", [answered_by_a_reset, ended_in_the_pause])
def test_a_tcp_session_that_broke_in_the_pause_has_not_survived(pause_of, cut):
    """Nothing is sent in the pause, and what is sent after it finds out."""
    pause = pause_of("debian-1", "tcp-session")
    port = pause.probe(TcpProbe)._connection.getpeername()[1]
    with ExitStack() as stack:
        verdict = pause.through(paused=lambda: stack.enter_context(cut(pause.guest.address, port)))[
            "tcp-session"
        ]
    assert verdict.outcome == "fail", verdict
    assert "the connection broke" in verdict.detail


def test_a_tcp_session_is_that_of_the_process_that_answered_before(pause_of):
    """On a guest with only a shell, where it is a channel of our SSH connection."""
    pause = pause_of("tiny-2", "tcp-session")
    kill = "kill $(grep -lx cat /proc/[0-9]*/comm | cut -d/ -f3)"
    verdict = pause.through(after=lambda: pause.run(kill))["tcp-session"]
    assert verdict.outcome == "fail", verdict


def test_a_block_that_was_written_and_is_lost_is_found(pause_of):
    """One of those from before the pause is overwritten with zeros, another with nonsense."""
    pause = pause_of("debian-1", "disk")
    hurt = "f=$(echo /var/tmp/.harness-disk-*); dd if=/dev/zero of=$f bs=4096 count=1 conv=notrunc"
    more = "; echo nonsense | dd of=$f bs=4096 seek=1 conv=notrunc"
    verdict = pause.through(after=lambda: pause.run(f"{hurt}{more}"))["disk"]
    assert (verdict.outcome, verdict.measured) == ("fail", 2), verdict
    assert pause.run("ls /var/tmp/.harness-disk-* 2>/dev/null; true") == "", "it is left behind"


def test_timers_that_are_held_up_after_the_pause_fail(pause_of):
    """The process that waits for them is stopped for one and a half seconds."""
    pause = pause_of("debian-1", "timers")
    stop = f"p=$(pgrep -f '{AGENT}'); kill -STOP $p; sleep 1.5; kill -CONT $p; sleep 0.1"
    verdict = pause.through(after=lambda: pause.run(stop))["timers"]
    assert verdict.outcome == "fail", verdict
    assert verdict.measured > 1.0


def test_a_stall_or_a_disk_error_in_the_kernel_log_is_found(guest_of):
    """Lines as the kernel writes them, in the kernel's own log."""
    guest = guest_of("debian-1")
    log = mark(guest.shell, guest.facts, Deadline.after(20))
    for line in ("watchdog: BUG: soft lockup - CPU#0 stuck for 23s!", "I/O error, dev vda, sector"):
        guest.shell.run(f"echo {shlex.quote(line)} >/dev/kmsg", Deadline.after(20))
    after = look_again(guest.shell, log, Deadline.after(20))[1]
    assert len(after.stalls) == 2


def test_the_users_own_checks_decide_by_their_exit_status(harness, lab, script):
    """One fails while the guest is paused, one says before that it cannot tell; all is kept."""
    body = (
        'echo "$HARNESS_CHECK $HARNESS_STAGE $HARNESS_GUEST $HARNESS_GUEST_ADDRESS"\n'
        'test "$HARNESS_CHECK" = skips && exit 77\n'
        'test "$HARNESS_STAGE" != during'
    )
    own = script(body)
    text = lab.config_file.read_text()
    for name in ("fails", "skips"):
        text += f'\n[[checks.own]]\nname = "{name}"\ncommand = ["{own}"]\n'
    config = lab.config_file.with_name("own.toml")
    config.write_text(text + '\n[checks]\nenable = ["clock"]\n')
    ended = harness("run", "-c", str(config), "tiny-1", "--duration", "0.5", "--json")
    assert ended.code == 1, ended.err
    checks = {c["name"]: c for c in ended.record["guests"][0]["checks"]}
    outcomes = {name: check["outcome"] for name, check in checks.items()}
    assert outcomes == {"clock": "pass", "own:fails": "fail", "own:skips": "skip"}
    assert checks["own:fails"]["detail"] == "before: exit 0, during: exit 1, after: exit 0"
    folder = find_run(state_dir(), None).path / "guests" / "tiny-1"
    address = next(guest.address for guest in lab.guests if guest.name == "tiny-1")
    log = folder / "own-fails-during.log"
    assert log.read_text() == f"fails during tiny-1 {address}\n"
    assert not (folder / "own-skips-during.log").exists()


def test_a_guest_that_is_reset_during_its_pause_is_not_the_same_boot(
    lab, tmp_path, monkeypatch, harness, script
):
    """By libvirt, in a lab of its own; it is asked over a new connection, the old one is dead."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))

    def restarts(*given):
        return domain_xml(*given).replace("<on_reboot>destroy", "<on_reboot>restart")

    monkeypatch.setattr(labs, "domain_xml", restarts)
    labs.up([GuestSpec("reset-1", "tiny")], deadline=Deadline.after(90), progress=print)
    try:
        update = script("exec virsh -c qemu:///system reset reset-1")
        with patience_of_tcp(1000):
            ended = harness("run", "reset-1", "--update", update, "--json")
    finally:
        labs.down(print)
    checks = {c["name"]: c["outcome"] for c in ended.record["guests"][0]["checks"]}
    assert checks["same-boot"] == "fail", ended.record["guests"][0]
    assert checks["same-process"] == "pass"
    assert checks["canary"] == "error", "nobody was left to be asked"
    assert ended.code != 0
