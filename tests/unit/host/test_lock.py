"""One maintenance of a host at a time, and durations as people write them."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from harness.core.durations import LONGEST_S, parse, scaled, spoken
from harness.core.errors import HostBusy, InfrastructureError
from harness.core.process_stat import read_stat
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.lock import (
    hold_in_background,
    holder,
    holding,
    host_lock,
    lock_file,
    noted_state_dirs,
    really_holds,
)
from harness.testing.clock import FakeClock

URI = "test:///default"


@pytest.fixture(autouse=True)
def _own_locks(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(tmp_path))


def test_the_second_is_told_who_what_and_since_when():
    """Name, run id and age of the holder."""
    clock = FakeClock()
    with host_lock(URI, "a maintenance", "run-7", clock=clock):
        clock.advance(300)
        with pytest.raises(HostBusy, match=r"has held it for 5 min: a maintenance, run run-7"):
            with host_lock(URI, "another", clock=clock):
                pass
    assert holder(URI) is None
    with host_lock(URI, "another"):
        assert holder(URI).purpose == "another"


def refusal() -> str:
    """Return what who comes second is told."""
    with pytest.raises(HostBusy) as caught, host_lock(URI, "another"):
        pass
    return str(caught.value)


def test_who_is_kept_out_is_told_the_command_that_ends_it():
    """Of a run the signal that has its guests resumed, of a reservation its release."""
    assert holding(URI) == ""
    with host_lock(URI, "a maintenance", "run-7"):
        assert refusal().endswith(f"which resumes its guests: kill -INT {os.getpid()})")
        assert holding(URI).endswith(f"kill -INT {os.getpid()}")
    with host_lock(URI, "flashing", until_ns=1):
        assert refusal().endswith(f"end the reservation: harness lock --uri {URI} --release)")


def test_nobody_is_told_to_signal_who_does_not_hold_it():
    """Any user may write into the lock: process 1, say."""
    with host_lock(URI, "a maintenance", "run-7"):
        text = lock_file(URI).read_text()
        lock_file(URI).write_text(text.replace(f'"pid":{os.getpid()}', '"pid":1'))
        assert "(pid 1)" in refusal()
        assert "kill" not in refusal() + holding(URI)


#: Looks without a pause, and tells when it has seen a free and a held host 100 times each.
READER = """
from harness.host.lock import holder
def look():
    return holder({uri!r}) is not None
"""
#: As harness looked before: by a shared lock, which is in the way of one that comes meanwhile.
SHARING_READER = """
import fcntl, os
file = os.open({path!r}, os.O_RDWR)
def look():
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False
"""
LOOKING = """
seen = [0, 0]
print(flush=True)
while True:
    seen[look()] += 1
    if min(seen) >= 100:
        seen = [0, 0]
        print(flush=True)
"""
ATTEMPTS = 2000


def refused_beside(reader: str, attempts: float = ATTEMPTS) -> int:
    """Lock the host so many times, and on until the reader has seen enough; how often it failed.

    The reader is a process of its own; that it has seen both states is what says that the two were
    at it at the same time. Ends at the first refusal.
    """
    with host_lock(URI, "makes the file"):
        pass
    code = reader.format(uri=URI, path=str(lock_file(URI))) + LOOKING
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"\n"
            os.set_blocking(process.stdout.fileno(), False)
            deadline = Deadline.after(60)
            tried, told = 0, b""
            while tried < attempts or not told:
                deadline.check(f"looking, {tried} attempts")
                try:
                    with host_lock(URI, "a run"):
                        tried += 1
                except HostBusy:
                    return 1
                told = told or process.stdout.read() or b""
            return 0
        finally:
            process.kill()


def test_who_only_looks_never_keeps_a_run_out():
    """Beside a reader that looks without a pause, every one of 2,000 runs gets the lock."""
    assert refused_beside(READER) == 0


def test_a_reader_that_takes_a_shared_lock_would_keep_runs_out():
    """So the test above can fail: as harness looked before, one run in fourteen was refused.

    Beside other work none of 2,000 may be: so until one is.
    """
    assert refused_beside(SHARING_READER, attempts=math.inf) == 1


def test_a_fifo_in_the_locks_place_stops_no_run():
    """It is locked as a file is; who holds it is not said."""
    os.mkfifo(lock_file(URI), 0o666)
    with host_lock(URI, "a run"):
        assert holder(URI) is None
        with pytest.raises(HostBusy), host_lock(URI, "another"):
            pass
    with host_lock(URI, "the next"):
        pass


def test_every_name_of_this_machine_has_one_lock():
    """Loopback and the own name are local; another host, or a port, is not."""
    own = platform.node().upper()
    local = {lock_file("qemu:///system")} | {
        lock_file(f"qemu+ssh://root@{host}/system")
        for host in ("127.0.0.1", "127.0.0.9", "[::1]", "localhost", "localhost:22", own)
    }
    assert len(local) == 1
    others = {lock_file(f"qemu+ssh://{host}/system") for host in ("box", "10.0.0.1")}
    others.add(lock_file("qemu+ssh://127.0.0.1:2222/system"))  # a tunnel
    assert len(others) == 3
    assert not others & local


def test_the_kernel_releases_it_when_the_holder_dies():
    """SIGKILL."""
    code = f"""
from harness.host.lock import host_lock
with host_lock({URI!r}, "x"):
    print("held", flush=True)
    input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    assert holder(URI).pid == process.pid
    process.kill()
    process.communicate()

    def free():
        if holder(URI) is not None:
            raise NotYet("still held")

    wait_for(free, what="the release", deadline=Deadline.after(5), interval_s=0.01)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("qemu:///system", "qemu:///session", True),
        ("qemu:///system", "qemu+unix:///system?socket=/x", True),
        ("qemu:///system", "qemu+ssh://root@box/system", False),
        ("qemu+ssh://a@box/system", "qemu+tls://box/system", True),
        ("qemu:///system", "test:///default", False),
    ],
)
def test_every_way_to_one_host_has_the_same_lock(one, other, same):
    """Whatever the transport and the user."""
    assert (lock_file(one) == lock_file(other)) is same


@pytest.mark.parametrize("text", ["", "{}", "null", '{"user": 3}', "\x00", "[" * 4000])
def test_what_the_file_says_is_only_data(text):
    """Anybody may write it."""
    with host_lock(URI, "x"):
        lock_file(URI).write_text(text)
        with pytest.raises(HostBusy, match="its holder has not said"), host_lock(URI, "y"):
            pass


def test_a_link_that_somebody_laid_is_not_followed(tmp_path):
    """What it points to is not truncated."""
    precious = tmp_path / "precious"
    precious.write_text("x")
    os.symlink(precious, lock_file(URI))
    with pytest.raises(InfrastructureError, match="cannot open the lock"), host_lock(URI, "x"):
        pass
    assert precious.read_text() == "x"


def test_everybody_may_lock_it():
    """Whatever the umask of the first one says."""
    before = os.umask(0o077)
    try:
        with host_lock(URI, "x"):
            assert lock_file(URI).stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_durations_as_people_write_them():
    """The unit is wanted, where nobody has said that a bare number is seconds."""
    assert [parse(text) for text in ("90s", "15m", "2h", "1d", "1.5h", " 5min ")] == [
        90, 900, 7200, 86400, 5400, 300,
    ]  # fmt: skip
    for bad in ("", "soon", "-1", "1w", "1h30", "nan", "1e3"):
        with pytest.raises(ValueError, match="invalid duration"):
            parse(bad)
    assert parse("3650d") == LONGEST_S
    for long in ("3651d", "9" * 400):
        with pytest.raises(ValueError, match="longer than 3650d"):
            parse(long, bare=True)


def test_what_is_scaled_stays_a_duration():
    """A tiny scale made a point in time that no clock and no database can hold."""
    assert scaled(900, 60) == 15
    assert scaled(900, 5e-324) == LONGEST_S
    assert scaled(0, 5e-324) == 0


@given(some.floats(min_value=0, max_value=LONGEST_S / 2))
def test_spoken_durations_can_be_read_back_roughly(seconds):
    """Within half of the unit that was said."""
    back = parse(spoken(seconds))
    assert abs(back - seconds) <= max(1, 0.5 * seconds)


def children() -> set[int]:
    """Of this process, by their pids: other tests may have some that go on."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if read_stat(int(process.name)).parent == os.getpid():
                found.add(int(process.name))
    return found


def test_a_host_is_held_in_the_background_for_a_while_and_then_let_go():
    """By a process of its own, which the file and the kernel both name."""
    before = children()
    mine = hold_in_background(URI, "flashing the BMC", 0.3)
    assert (mine.purpose, mine.pid != os.getpid()) == ("flashing the BMC", True)
    assert really_holds(URI, mine.pid)
    assert not really_holds(URI, os.getpid())
    with pytest.raises(HostBusy, match="flashing the BMC, for another"):
        hold_in_background(URI, "another", 1)

    def free() -> None:
        if holder(URI) is not None:
            raise NotYet("held")

    wait_for(free, what="the end of the hold", deadline=Deadline.after(10), interval_s=0.02)

    def gone() -> None:
        for pid in children() - before:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if left := children() - before:
            raise NotYet(f"processes {left} are there")

    wait_for(gone, what="the end of both children", deadline=Deadline.after(10), interval_s=0.02)


def test_who_has_not_said_who_it_is_is_told_so():
    """A file that is damaged, or of somebody who has only just come."""
    with host_lock(URI, "x"):
        lock_file(URI).write_text("{")
        with pytest.raises(HostBusy, match="has not said who it is"):
            with host_lock(URI, "y"):
                pass
        assert holder(URI) is None


def test_where_runs_were_kept_stays_in_the_lock(tmp_path):
    """Of the last holders, newest first; who finds a dead run needs no variable of its user's."""
    assert noted_state_dirs(URI) == ()
    for name in ("one", "two", "one"):
        with host_lock(URI, "a maintenance", state_dir=tmp_path / name):
            assert noted_state_dirs(URI)[0] == tmp_path / name
            assert holder(URI) is not None
    with host_lock(URI, "flashing"):
        pass
    assert noted_state_dirs(URI) == (tmp_path / "one", tmp_path / "two")
    assert holder(URI) is None
    for number in range(20):
        with host_lock(URI, "a maintenance", state_dir=tmp_path / str(number)):
            pass
    assert len(noted_state_dirs(URI)) == 8


@pytest.mark.parametrize("said", [b"{", b"[]", b'{"state_dirs": [1]}', b'{"state_dirs": ["x"]}'])
def test_what_others_wrote_into_the_lock_is_only_data(said):
    """Anybody may write there."""
    lock_file(URI).write_bytes(said)
    assert noted_state_dirs(URI) == ()
    with host_lock(URI, "a maintenance"):
        assert holder(URI) is not None
