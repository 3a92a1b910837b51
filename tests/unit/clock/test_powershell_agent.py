"""The clock agent for Windows, its C# compiled and run here.

By Mono, over the few calls of Windows that it makes (``tests/data/win32.c``). PowerShell is not to
be had here: its few lines around the C# are not run by these tests, and nothing is on Windows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.clock.agents import Ability, agent
from harness.clock.refusals import HINT_PRIVILEGE
from harness.clock.sampling import Sampler
from harness.core.errors import ProbeError
from harness.core.timebase import Deadline
from harness.guest.facts import GuestFacts, GuestOs
from harness.testing.required import required
from tests.unit.clock.test_agents import Local

DATA = Path(__file__).parents[2] / "data"
FACTS = GuestFacts("id", "10.0.20348", None, 0, ("powershell",), None, os=GuestOs.WINDOWS)
_CONFIG = """<configuration>
  <dllmap dll="kernel32.dll" target="{library}"/><dllmap dll="advapi32.dll" target="{library}"/>
</configuration>"""
_MAIN = "static class Program { static void Main() { HarnessClock.Serve(); } }"


def c_sharp() -> str:
    """What PowerShell is told to compile."""
    return agent("powershell").command.split("@'\n", 1)[1].split("\n'@", 1)[0]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The agent's C#, compiled as C# 5 is, which is all that Windows PowerShell 5.1 knows."""
    if missing := [name for name in ("mcs", "mono", "cc") if not shutil.which(name)]:
        why = f"no {', '.join(missing)} on this machine"
        pytest.fail(why) if required("mono") else pytest.skip(why)
    folder = tmp_path_factory.mktemp("windows")
    (folder / "agent.cs").write_text(c_sharp())
    (folder / "main.cs").write_text(_MAIN)
    (folder / "agent.exe.config").write_text(_CONFIG.format(library=folder / "win32.so"))
    library = ["cc", "-shared", "-fPIC", "-o", "win32.so", str(DATA / "win32.c")]
    compiled = ["mcs", "-langversion:5", "-warnaserror", "-out:agent.exe", "agent.cs", "main.cs"]
    for command in (library, compiled):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    return folder / "agent.exe"


class Mono(Local):
    """A guest's shell that runs the compiled agent, whatever it is asked to start."""

    def __init__(self, program: Path, refuses: str) -> None:
        super().__init__()
        self._program = program
        self._refuses = refuses

    def stream(self, command, deadline):
        assert "[HarnessClock]::Serve()" in command
        self.process = subprocess.Popen(
            ["mono", str(self._program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "WIN32_REFUSES": self._refuses},
        )
        return self


@pytest.fixture
def start(program):
    """``start()`` opens a sampler on the agent; ``refuses`` names a call that Windows refuses."""
    opened: list[Mono] = []

    def run(refuses: str = "") -> Sampler:
        opened.append(Mono(program, refuses))
        shell: Any = opened[-1]
        return Sampler.open(shell, FACTS, soon())

    yield run
    for shell in opened:
        shell.close()


def soon() -> Deadline:
    return Deadline.after(30)


def test_the_truth_is_within_what_the_agent_leads_us_to_state(start):
    """The clock is this machine's: offset nought, and the monotonic one likewise."""
    sampler = start()
    assert (sampler.interpreter, sampler.can_step) == ("powershell", True)
    assert sampler.abilities == {Ability.STEP, Ability.PROBE}
    for _ in range(5):
        reading = sampler.read(4, soon())
        assert abs(reading.offset_s) <= reading.uncertainty_s + 1e-6
        assert abs(reading.monotonic_s) <= reading.monotonic_uncertainty_s + 1e-6
    assert sampler.precise


@pytest.mark.parametrize("by_ns", [5 * 10**9, -5 * 10**9, 12_345_600, -400_000, 1_700, 4 * 10**13])
def test_a_step_is_as_large_as_was_asked_for(program, by_ns):
    """Though Windows takes whole milliseconds: the agent waits for one.

    On clocks that go on by a look at them, so that a busy machine makes no difference.
    """

    def ahead_ns(line: str) -> int:
        _, _, real_ns, mono_ns, _ = (int(word) for word in line.split())
        return real_ns - mono_ns

    done = subprocess.run(
        ["mono", str(program)],
        input=f"r 1\ns 2 {by_ns}\nr 3\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "WIN32_COUNTS": "yes"},
    )
    before, said, after = done.stdout.splitlines()
    assert said == "2 ok"
    # Looks at the clocks, 10 us each: a round of the wait has two, the step one, a reading two.
    assert abs(ahead_ns(after) - ahead_ns(before) - by_ns) <= 50_000


def test_a_real_clock_is_stepped_by_about_that(start):
    """By what is left when the machine is busy, a correction tries again."""
    sampler = start()
    sampler.step(5_000_000_000, soon())
    assert sampler.read(8, soon()).offset_s == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("OpenProcessToken", "OpenProcessToken (Win32 error 5)"),
        ("AdjustTokenPrivileges", "SeSystemtimePrivilege is not held (Win32 error 1300)"),
    ],
)
def test_a_user_who_may_not_set_the_clock_is_known_before_the_pause(start, call, said):
    """AdjustTokenPrivileges succeeds without the privilege, and only its last error tells."""
    sampler = start(refuses=call)
    with pytest.raises(ProbeError) as refused:
        sampler.expect_right(soon())
    assert said in str(refused.value)
    with pytest.raises(ProbeError):
        sampler.step(5_000_000_000, soon())
    assert abs(sampler.read(4, soon()).offset_s) < 1


def test_a_missing_privilege_says_where_it_is_granted(start):
    """And speaks of no capability of Linux."""
    with pytest.raises(ProbeError) as refused:
        start(refuses="AdjustTokenPrivileges").expect_right(soon())
    assert refused.value.hint == HINT_PRIVILEGE


def test_a_step_that_windows_refuses_is_told_with_its_error(start):
    """By the last call: the clock is as it was, and the agent goes on."""
    sampler = start(refuses="SetSystemTime")
    sampler.expect_right(soon())
    with pytest.raises(ProbeError, match="SetSystemTime .Win32 error 1314"):
        sampler.step(5_000_000_000, soon())
    assert abs(sampler.read(4, soon()).offset_s) < 1


def test_right_is_asked_for_without_a_change(start):
    """The privilege is enabled in the agent's own process."""
    sampler = start()
    sampler.expect_right(soon())
    assert abs(sampler.read(4, soon()).offset_s) < 0.5


def test_the_probe_sees_a_jump_that_was_not_its_own(start):
    """A step by the agent itself is none."""
    sampler = start()
    sampler.ensure_probe(soon())
    sampler.step(3_000_000_000, soon())
    counts = sampler.end_probe(soon())
    assert (counts.jumps, counts.went_back, counts.monotonic_went_back) == (0, 0, 0)
    assert counts.looks >= 2


@pytest.mark.parametrize("question", ["z", "x", "t", "p", "d"])
def test_what_it_does_not_know_it_says(start, question):
    """The next question is answered all the same."""
    sampler = start()
    assert sampler._ask(question, soon(), "7 8").text == "what"
    assert sampler.read(1, soon()).uncertainty_s < 1


@pytest.mark.parametrize("value", ["", "no number", "9" * 30, "0x10", "5; exit"])
def test_a_step_by_nonsense_is_refused(start, value):
    """And nothing is set."""
    sampler = start()
    assert sampler._ask("s", soon(), value).text.startswith("failed ")
    assert abs(sampler.read(4, soon()).offset_s) < 1


def test_a_windows_guest_has_no_rtc_and_no_slew(start):
    """Windows offers no way to read its RTC."""
    sampler = start()
    assert (sampler.rtc_s(soon()), sampler.machine_uuid(soon())) == (None, None)
    assert Ability.SLEW not in sampler.abilities


def test_its_text_is_what_windows_powershell_can_take():
    """ASCII, whatever the console's code page; the C# ends where PowerShell's string does."""
    text = agent("powershell").command
    assert text.isascii()
    assert text.count("\n'@\n") == 1 == text.count("@'\n")
    assert agent("powershell", sudo=True).command == text
