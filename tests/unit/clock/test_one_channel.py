"""One channel tells the facts and goes on as the clock agent; real processes on this machine."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from harness.checks.probes.programs import python3_text
from harness.clock.one_channel import enter
from harness.clock.programs import Programs
from harness.core.errors import ProbeError
from harness.core.timebase import SYSTEM_CLOCK, Deadline, Stopwatch
from harness.guest.facts import gather
from harness.guest.kernel_log import KernelLog, look_again, mark
from harness.testing.local_shell import LocalShell

ALL = ("python3", "perl", "sh")


@pytest.fixture
def shell():
    """This machine as a guest; everything that is started ends with the test."""
    here = LocalShell()
    yield here
    here.close()


def soon() -> Deadline:
    return Deadline.after(30)


def test_it_says_what_several_channels_say(shell):
    """The facts are those of the script, and the clock is that of this machine."""
    entered = enter(shell, ALL, soon())
    assert entered is not None
    facts, sampler = entered
    asked = gather(shell, soon())
    assert facts == replace(asked, time_daemon=facts.time_daemon)
    assert (sampler.interpreter, len(shell.streams)) == ("python3", 1)
    reading = sampler.read(4, soon())
    assert abs(reading.offset_s) <= reading.uncertainty_s


def without_python3(monkeypatch, tmp_path) -> None:
    for name in ("sh", "cat", "sed", "id", "date", "sleep", "perl"):
        if found := shutil.which(name):
            (tmp_path / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize(("wanted", "used"), [(ALL, "perl"), (("python3", "sh"), "sh")])
def test_without_python3_the_next_choice_takes_over(shell, monkeypatch, tmp_path, wanted, used):
    """On the same channel, when the script has told the facts."""
    without_python3(monkeypatch, tmp_path)
    if used == "perl" and not shutil.which("perl"):
        pytest.skip("no perl")
    entered = enter(shell, wanted, soon())
    assert entered is not None
    facts, sampler = entered
    assert "python3" not in facts.interpreters
    assert (sampler.interpreter, sampler.runs_programs) == (used, False)
    assert facts.boot_id == gather(shell, soon()).boot_id


def test_a_shell_tells_of_the_kernel_log_over_the_same_channel(shell, monkeypatch, tmp_path):
    """What a command of its own would have told, right or not."""
    without_python3(monkeypatch, tmp_path)
    dmesg = tmp_path / "dmesg"
    dmesg.write_text("#!/bin/sh\necho '[ 1.0] . 0'\necho '[ 2.0] new'\n[ ! -e \"$0.no\" ]\n")
    dmesg.chmod(0o755)
    facts, sampler = enter(shell, ("python3", "sh"), soon())
    user = replace(facts, uid=1000)
    marked = mark(shell, user, soon(), looks=sampler)
    assert marked == mark(shell, user, soon()) == KernelLog("[ 2.0] new")
    log = KernelLog("[ 1.0] . 0")
    seen = look_again(shell, log, soon(), looks=sampler)
    assert seen == look_again(shell, log, soon())
    assert seen == (facts.boot_id, replace(log, new_lines=("[ 2.0] new",)))
    (tmp_path / "dmesg.no").touch()
    assert look_again(shell, log, soon(), looks=sampler) == (facts.boot_id, None)
    assert len(shell.streams) == 1


def test_one_that_does_not_work_is_left_to_a_closer_look(shell, monkeypatch, tmp_path):
    """A python3 that is broken, or only one that is not there, or another first choice."""
    without_python3(monkeypatch, tmp_path)
    assert enter(shell, ("python3",), soon()) is None
    assert enter(shell, ("perl", "python3"), soon()) is None
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert enter(shell, ALL, soon()) is None


@pytest.fixture
def python(shell):
    """What runs programs."""
    entered = enter(shell, ALL, soon())
    assert entered is not None
    return Programs(entered[1])


def test_an_error_of_a_program_is_told_and_ends_nothing(python):
    """The clock is read over the same process."""
    with pytest.raises(ProbeError, match="ZeroDivisionError"):
        python.evaluate("said = 1 / 0", soon())
    assert python.evaluate("said = ''", soon()) == ""
    assert python.evaluate("said = 'a\\nb'", soon()) == "a\nb"


def test_a_child_answers_beside_the_clock_until_the_next_one(shell, python):
    """While it is busy the clock is read all the same; what it says late is not taken for that."""
    child = python.start(python3_text({"canary"}), soon())
    assert child.listen(soon())[0] == "ready"
    assert child.ask("fill 00 8192", soon())[1] == "ok"
    assert len(child.ask("digest", soon())[1]) == 64
    busy = "import time\nprint('ready', flush=True)\ninput()\ntime.sleep(3)\nprint('late')"
    python.start(busy, soon())
    agent = shell.streams[0].process.stdin
    agent.write("y 0 go\n")  # asked, and given up
    agent.flush()
    watch = Stopwatch(SYSTEM_CLOCK)
    assert python.evaluate("said = 'now'", soon()) == "now"
    assert watch.elapsed_s() < 2.5
    SYSTEM_CLOCK.sleep(3.5)
    assert python.evaluate("said = 'then'", soon()) == "then"
    assert python.start(python3_text(set()), soon()).listen(soon())[0] == "ready"


def test_a_child_that_has_ended_says_so(python):
    """Instead of nothing until the time is over."""
    child = python.start("print('ready', flush=True)\ninput()", soon())
    assert child.ask("anything", soon())[1].startswith("error")


def test_the_log_since_a_line_of_it(python):
    """A line that is not there is a gap; where nothing was marked, nothing is judged."""
    boot_id, seen = look_again(None, KernelLog("no such line in any log"), soon(), python)
    with open("/proc/sys/kernel/random/boot_id") as file:
        assert boot_id == file.read().strip()
    assert seen is None or seen.has_gap  # None: this user may not read it
    assert look_again(None, KernelLog(None), soon(), python)[1] is None
