"""The program for guests with python3, as a real process: what it makes do without, and how."""

from __future__ import annotations

import importlib.resources
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.checks.probes import programs
from harness.checks.probes.programs import PARTS, python3_program, python3_text
from harness.core.timebase import SYSTEM_CLOCK, Deadline, Stopwatch
from harness.testing.local_shell import LocalShell, LocalStream

#: Each takes an emulated guest longer to import than all the rest together.
SLOW_MODULES = {"threading", "socket", "hashlib"}
KEY = "00" * 16


def soon() -> Deadline:
    return Deadline.after(30)


@pytest.fixture
def program() -> Iterator[LocalStream]:
    """All parts, ready to be asked."""
    shell = LocalShell()
    stream = shell.stream(python3_program(PARTS), soon())
    assert stream.listen(soon())[0] == "ready"
    yield stream
    shell.close()


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder on a disk: that of a test may be in memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def said_by(part: str, then: str) -> tuple[str, str]:
    """stdout and stderr of the program with that part alone, and of what comes after it."""
    parts = (importlib.resources.files(programs) / f"{name}.py" for name in ("start", part))
    text = "\n".join([*(one.read_text() for one in parts), then])
    command = ["python3", "-ISB", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout, done.stderr


def ask(program: LocalStream, question: str) -> str:
    return program.ask(question, soon())[1]


def test_nothing_is_imported_that_is_slow_under_emulation():
    """With every part; the interpreter itself says what it has loaded."""
    command = ["python3", "-ISB", "-X", "importtime", "-c", python3_text(PARTS)]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=30)
    assert done.stdout == "ready\n"
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "_socket" in loaded
    assert not loaded & SLOW_MODULES


EVENTS = """
from _thread import start_new_thread
from time import monotonic, sleep
def took(work, *arguments):
    began = monotonic()
    return work(*arguments), monotonic() - began
one = Event()
for number in range(2):  # as good as new when it was cleared
    one.clear()
    one.clear()
    answer, seconds = took(one.wait, 0.2)
    assert answer is False and not one.happened and seconds > 0.15, seconds
    one.set()
    one.set()
    for again in range(3):
        answer, seconds = took(one.wait, 20)
        assert answer is True and one.happened and seconds < 10, seconds
    one.clear()
start_new_thread(lambda: (sleep(0.2), one.set()), ())
answer, seconds = took(one.wait, 20)
assert answer is True and seconds < 10, seconds
passed = []
def passing():
    while len(passed) < 20000:
        passed.append(one.wait(0.0001))
start_new_thread(passing, ())
while len(passed) < 20000:
    one.set()
    one.clear()
assert one.wait(0) is False
print("right")
"""


def test_an_event_is_set_and_cleared_and_waited_for_as_often_as_one_likes():
    """Also beside a thread that waits again and again: nothing is released that is not held."""
    assert said_by("disk", EVENTS) == ("right\n", "")


def test_a_wait_for_blocks_ends_with_them_or_with_its_time(program, disk):
    """The writer hurries only as long as it is waited for."""
    assert ask(program, f"disk-start {KEY} {str(disk).encode().hex()}") == "ok"
    assert int(ask(program, "disk-wait 8 20")) >= 8
    watch = Stopwatch()
    before = int(ask(program, "disk-count"))
    assert int(ask(program, "disk-wait 16384 0.5")) >= before
    assert watch.elapsed_s() >= 0.5
    before = int(ask(program, "disk-count"))
    assert int(ask(program, f"disk-wait {before} 20")) >= before, "they are there already"
    assert int(ask(program, "disk-wait 16384 0")) >= before
    calm = int(ask(program, "disk-count"))
    SYSTEM_CLOCK.sleep(0.5)
    assert int(ask(program, "disk-count")) <= calm + 4
    count, *others = ask(program, "disk-stop").split()
    assert (int(count) >= before, others[:2], others[3]) == (True, ["0", "0"], "-")
    assert not list(disk.iterdir())


def test_nothing_is_waited_for_from_a_writer_that_has_ended(program, disk):
    """A wait for more blocks, and the stop, end at once."""
    assert ask(program, f"disk-start {KEY} {str(disk).encode().hex()}") == "ok"
    limit = ["prlimit", f"--pid={program.process.pid}", "--fsize=4096"]
    subprocess.run(limit, check=True, timeout=10)
    watch = Stopwatch()
    for _ in range(2):
        assert int(ask(program, "disk-wait 1000 15")) <= 1
    assert ask(program, "disk-stop").endswith("File too large")
    assert watch.elapsed_s() < 15


def test_what_is_watched_is_ended_with_the_program(program, disk):
    """Its file is gone, with or without a stop."""
    assert ask(program, f"disk-start {KEY} {str(disk).encode().hex()}") == "ok"
    assert int(ask(program, "disk-wait 2 20")) >= 2
    program.close()
    assert program.process.returncode == 0
    assert not list(disk.iterdir())


@pytest.mark.parametrize(("version", "here"), [("4", "127.0.0.1"), ("6", "::1")])
def test_the_echo_is_for_the_one_who_knows_the_token(program, version, here):
    """By UDP; by TCP for one connection, whoever came before with something else."""
    family = socket.AF_INET6 if version == "6" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        try:
            one.bind((here, 0))
        except OSError:
            pytest.skip(f"no IPv{version} here")
        udp, tcp = map(int, ask(program, f"echo {version} token").split())
        one.settimeout(20)
        one.sendto(b"another", (here, udp))
        one.sendto(b"token 1", (here, udp))
        assert one.recv(99) == b"token 1"
    for wrong in (b"", b"tok", b"taken"):
        with socket.create_connection((here, tcp), timeout=20) as stranger:
            stranger.sendall(wrong)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(99) == b""
    with socket.create_connection((here, tcp), timeout=20) as friend:
        friend.sendall(b"token")
        for number in range(3):
            friend.sendall(b"line %d" % number)
            assert friend.recv(99) == b"line %d" % number
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((here, tcp), timeout=20)


def test_a_run_that_is_quicker_than_the_timer_waits_for_it(program):
    """It is due after 250 ms; a whole maintenance may take less."""
    assert ask(program, "timers-start 250") == "ok"
    assert ask(program, "timers-mark") == "ok"
    fired, _, burst, _ = map(int, ask(program, "timers-read").split())
    assert fired >= burst >= 1


SILENT_TIMER = """
os.read = lambda *_: time.sleep(60)  # as of a timer that does not fire
timers_start("100")
began = time.monotonic()
answer = timers_read()
assert time.monotonic() - began < 20
fired, late, burst, realtime = map(int, answer.split())
assert (fired, burst) == (0, 0) and late >= 100000000, answer
print("right")
"""


def test_a_timer_that_does_not_fire_is_not_waited_for_without_end():
    """An interval longer than it may take; then it has not fired."""
    assert said_by("timers", SILENT_TIMER) == ("right\n", "")
