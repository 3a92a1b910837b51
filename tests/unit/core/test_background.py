"""Processes that go on without the one that started them."""

from __future__ import annotations

import ast
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.background import start_in_background
from tests.unit.test_walls import ROOT

#: What a process is, as it sees itself.
TELL = """
import os, sys
print(os.getpid() == os.getsid(0), sys.stdin.read() == "", os.environ.get("SAID"))
"""


def test_it_has_a_session_of_its_own_and_nothing_of_our_terminal(tmp_path):
    """Ctrl-C is for us; it reads nothing; what it says is in a file that is ours alone."""
    log = tmp_path / "log"
    log.write_text("before\n")
    process = start_in_background([sys.executable, "-c", TELL], log, environment={"SAID": "x"})
    assert process.wait(30) == 0
    assert log.read_text().splitlines()[:2] == ["before", "True True x"]
    start_in_background(["true"], tmp_path / "new", append=False).wait(30)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    start_in_background(["true"], log, append=False).wait(30)
    assert log.read_text() == ""


def test_one_that_is_fed_ends_when_we_do(tmp_path):
    """And a descriptor that it keeps has its number."""
    told, tell = os.pipe()
    words = f"import os, sys; os.write({tell}, b'here'); sys.stdin.read()"
    process = start_in_background(
        [sys.executable, "-c", words], tmp_path / "log", keep=[tell], fed=True
    )
    os.close(tell)
    with open(told, "rb") as pipe:
        assert pipe.read(4) == b"here"
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.filterwarnings("error")
def test_that_it_goes_on_is_nothing_to_warn_of(tmp_path):
    """Where a Popen that is forgotten warns of a leak."""
    process = start_in_background(["sleep", "60"], tmp_path / "log")
    pid = process.pid
    del process
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[0] == pid


def test_what_cannot_be_started_is_an_error(tmp_path):
    """For the caller to say what it means."""
    with pytest.raises(OSError, match="no-such-program"):
        start_in_background(["no-such-program"], tmp_path / "log")
    with pytest.raises(OSError, match="nowhere"):
        start_in_background(["true"], tmp_path / "nowhere" / "log")


def detaching(source: str) -> bool:
    """Whether a module starts processes in a session of their own."""
    if not re.search("start_new_session|setsid|fork", source):  # to read all of harness takes time
        return False
    return any(
        (isinstance(node, ast.keyword) and node.arg in ("start_new_session", "setsid"))
        or (isinstance(node, ast.Attribute) and node.attr in ("fork", "setsid", "forkpty"))
        for node in ast.walk(ast.parse(source))
    )


#: An update's processes are a session that is ended with the update; OpenSSH is waited for, and has
#: no terminal to ask at; a ProxyCommand ends with its connection; a program of a guest, and what it
#: forks, runs in the guest; a QEMU without a guest is ended before guests start; who keeps a
#: parked guest's RAM outlives the run, as that guest's user.
OTHERS = {
    "host/kernel/warm_qemu.py",
    "host/kernel/writable_again.py",
    "host/luo/held_ram.py",
    "clock/agents/python3_agent.py",
    "host/child_process.py",
    "guest/openssh.py",
    "guest/proxy_command.py",
    "checks/probes/programs/timers.py",
}


def test_detached_children_are_started_in_one_place():
    """Each with the same care: session, descriptors, log, what becomes of it without us."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if detaching(path.read_text())
    }
    assert found == {"core/background.py", *OTHERS}


def test_one_more_place_would_be_noticed():
    """By a session of its own, or by a fork."""
    assert detaching("subprocess.Popen(['a'], start_new_session=True)")
    assert detaching("os.posix_spawn('a', [], {}, setsid=True)")
    assert detaching("if os.fork() == 0: ...")
    assert not detaching("subprocess.run(['a'])")


def entry_points() -> list[Path]:
    """Modules of harness/ that are processes."""
    return [
        path
        for path in sorted(ROOT.rglob("*.py"))
        if 'if __name__ == "__main__":' in path.read_text()
        and not {"agents", "programs"} & set(path.parts)
    ]


@pytest.mark.parametrize("path", entry_points(), ids=lambda path: path.stem)
def test_every_process_of_ours_settles_what_it_inherited(path):
    """First thing: before it opens a descriptor or starts a thread."""
    assert "settle_process()" in path.read_text() or path == ROOT / "__main__.py"


def test_a_parent_that_ends_leaves_it_running(tmp_path):
    """A real process, started by one that has gone."""
    code = (
        "from harness.core.background import start_in_background as go; import pathlib, sys;"
        "print(go(['sleep', '60'], pathlib.Path(sys.argv[1])).pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "log"], capture_output=True, check=True
    )
    pid = int(done.stdout)
    # Not its name: an exec closes the pipe that Popen waits for a moment before it renames.
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    os.kill(pid, signal.SIGKILL)
    assert state in ("R", "S")
